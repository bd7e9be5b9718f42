package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// append appends the values whose flags are set, and extra among the headers unless it is nil. It reports false when the
// headers cannot be carried.
func (p *Properties) append(dst []byte, flags uint16, extra *extraEntry) (_ []byte, ok bool) {
	dst = appendSet(dst, p.ContentType)
	dst = appendSet(dst, p.ContentEncoding)
	if flags&flagHeaders != 0 {
		if dst, ok = appendHeaders(dst, p.Headers, extra); !ok {
			return dst, false
		}
	}
	if p.DeliveryMode != 0 {
		dst = append(dst, p.DeliveryMode)
	}
	if p.Priority != 0 {
		dst = append(dst, p.Priority)
	}
	dst = appendSet(dst, p.CorrelationID)
	dst = appendSet(dst, p.ReplyTo)
	dst = appendSet(dst, p.Expiration)
	dst = appendSet(dst, p.MessageID)
	if flags&flagTimestamp != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(p.Timestamp.Unix()))
	}
	dst = appendSet(dst, p.Type)
	dst = appendSet(dst, p.UserID)
	dst = appendSet(dst, p.AppID)
	return appendSet(dst, p.ClusterID), true
}

// appendSet appends a string that is only sent when it is not empty.
func appendSet(dst []byte, s string) []byte {
	if s == "" {
		return dst
	}
	return appendShortstr(dst, s)
}

// appendHeaders appends the table with the extra entry, which counts when the table has its key as well.
func appendHeaders(dst []byte, t Table, extra *extraEntry) (_ []byte, ok bool) {
	if extra == nil {
		return appendTable(dst, t, 0)
	}
	n := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for key, v := range t {
		if key == extra.key {
			continue
		}
		if dst, ok = appendEntry(dst, key, v, 0); !ok {
			return dst, false
		}
	}
	dst = appendInt64(appendShortstr(dst, extra.key), extra.value)
	return patchLength(dst, n)
}

// Decode reads flags and values as [ContentHeader] has them and sets every field. Strings are made by text, which may share
// equal ones; a nil text copies. Nothing else in p refers to raw.
func (p *Properties) Decode(raw []byte, text func([]byte) string) error {
	r := reader{b: raw}
	flags := r.short()
	unknown := flags &^ (flagKnown | flagMore)
	for more := flags; more&flagMore != 0; {
		more = r.short()
		unknown |= more &^ flagMore
	}
	if unknown != 0 {
		r.fail(fmt.Errorf("%w: unknown property flags %#04x", ErrMalformed, unknown))
	}
	*p = Properties{}
	if flags&flagKnown != 0 {
		p.decode(&r, flags, text)
	}
	if err := r.end(); err != nil {
		return fmt.Errorf("properties: %w", err)
	}
	return nil
}

func (p *Properties) decode(r *reader, flags uint16, text func([]byte) string) {
	str := func(flag uint16, s *string) {
		if flags&flag == 0 {
			return
		}
		if b := r.shortBytes(); text != nil {
			*s = text(b)
		} else {
			*s = string(b)
		}
	}
	str(flagContentType, &p.ContentType)
	str(flagContentEncoding, &p.ContentEncoding)
	if flags&flagHeaders != 0 {
		p.Headers = r.table()
	}
	if flags&flagDeliveryMode != 0 {
		p.DeliveryMode = r.octet()
	}
	if flags&flagPriority != 0 {
		p.Priority = r.octet()
	}
	str(flagCorrelationID, &p.CorrelationID)
	str(flagReplyTo, &p.ReplyTo)
	str(flagExpiration, &p.Expiration)
	str(flagMessageID, &p.MessageID)
	if flags&flagTimestamp != 0 {
		p.Timestamp = time.Unix(int64(r.longlong()), 0).UTC()
	}
	str(flagType, &p.Type)
	str(flagUserID, &p.UserID)
	str(flagAppID, &p.AppID)
	str(flagClusterID, &p.ClusterID)
}
