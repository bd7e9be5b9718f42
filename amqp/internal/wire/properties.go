package wire

import (
	"fmt"
	"math"
	"time"
)

// Properties describe a message. A field with its zero value is not sent.
type Properties struct {
	ContentType, ContentEncoding string
	Headers                      Table
	DeliveryMode                 uint8
	Priority                     uint8
	CorrelationID, ReplyTo       string
	Expiration                   string
	MessageID                    string
	Timestamp                    time.Time
	Type, UserID, AppID          string
	ClusterID                    string
}

// The flags say which properties are present, the first one highest. The lowest bit says that another word of flags
// follows; the class basic has no more than one.
const (
	flagContentType = 1 << (15 - iota)
	flagContentEncoding
	flagHeaders
	flagDeliveryMode
	flagPriority
	flagCorrelationID
	flagReplyTo
	flagExpiration
	flagMessageID
	flagTimestamp
	flagType
	flagUserID
	flagAppID
	flagClusterID
	_
	flagMore

	flagKnown = 0xFFFC // all of the properties'
)

// IsZero says in one go whether nothing is set.
func (p *Properties) IsZero() bool {
	return len(p.ContentType)|len(p.ContentEncoding)|len(p.Headers)|int(p.DeliveryMode)|int(p.Priority)|len(p.CorrelationID)|
		len(p.ReplyTo)|len(p.Expiration)|len(p.MessageID)|len(p.Type)|len(p.UserID)|len(p.AppID)|len(p.ClusterID) == 0 &&
		p.Headers == nil && p.Timestamp.IsZero()
}

// Size returns the number of bytes of the flags and values, for a nil p those of the flags alone. The error names the field that cannot be carried.
func (p *Properties) Size() (int, error) {
	if p == nil {
		return 2, nil
	}
	_, n, longest := p.measure()
	if longest > math.MaxUint8 || !p.Timestamp.IsZero() && p.Timestamp.Unix() < 0 {
		return 0, p.problem()
	}
	if p.Headers != nil {
		size, err := tableSize("headers", p.Headers)
		if err != nil {
			return 0, err
		}
		n += size
	}
	return 2 + n, nil
}

// measure returns the flags, the bytes of everything but the headers, and a number that is above 255 when a string is longer
// than that: the lengths ored together.
func (p *Properties) measure() (flags uint16, n, longest int) {
	add := func(flag uint16, s string) {
		if len(s) > 0 {
			flags |= flag
			n += 1 + len(s)
			longest |= len(s)
		}
	}
	add(flagContentType, p.ContentType)
	add(flagContentEncoding, p.ContentEncoding)
	add(flagCorrelationID, p.CorrelationID)
	add(flagReplyTo, p.ReplyTo)
	add(flagExpiration, p.Expiration)
	add(flagMessageID, p.MessageID)
	add(flagType, p.Type)
	add(flagUserID, p.UserID)
	add(flagAppID, p.AppID)
	add(flagClusterID, p.ClusterID)
	if p.Headers != nil {
		flags |= flagHeaders
	}
	if p.DeliveryMode != 0 {
		flags |= flagDeliveryMode
		n++
	}
	if p.Priority != 0 {
		flags |= flagPriority
		n++
	}
	if !p.Timestamp.IsZero() {
		flags |= flagTimestamp
		n += 8
	}
	return flags, n, longest
}

// problem says which field cannot be carried, headers apart.
func (p *Properties) problem() error {
	for _, f := range []struct{ name, value string }{
		{"content-type", p.ContentType}, {"content-encoding", p.ContentEncoding}, {"correlation-id", p.CorrelationID},
		{"reply-to", p.ReplyTo}, {"expiration", p.Expiration}, {"message-id", p.MessageID}, {"type", p.Type},
		{"user-id", p.UserID}, {"app-id", p.AppID}, {"cluster-id", p.ClusterID},
	} {
		if len(f.value) > math.MaxUint8 {
			return tooLong(f.name, len(f.value))
		}
	}
	return fmt.Errorf("timestamp: %s is before 1970 and can't be carried", p.Timestamp.UTC().Format(time.RFC3339))
}
