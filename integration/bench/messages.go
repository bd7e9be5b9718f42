//go:build unix

package main

import (
	"encoding/binary"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	official "github.com/rabbitmq/amqp091-go"
)

// What a message carries in the modes with properties: what services send.
const (
	contentType = "application/json"
	tenant      = "acme-corporation"
	trace       = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	attempt     = int32(1)
)

// ids are the message ids in use, one after the other: neighbours differ.
var ids = func() (ids [1024]string) {
	for i := range ids {
		ids[i] = fmt.Sprintf("message-%08x-%04d", i*2654435761, i)
	}
	return ids
}()

// rawProperties is the encoded property list of message i.
func rawProperties(with bool, i int) []byte {
	if !with {
		return []byte{0, 0}
	}
	var headers []byte
	headers = appendString(headers, "tenant", tenant)
	headers = append(append(headers, 7), "attempt"...)
	headers = binary.BigEndian.AppendUint32(append(headers, 'I'), uint32(attempt))
	// Received messages differ in it, as they do where it is in use.
	headers = appendString(headers, "traceparent", fmt.Sprintf("%.19s%016x%s", trace, i, trace[35:]))

	p := binary.BigEndian.AppendUint16(nil, 1<<15|1<<13|1<<12|1<<7)
	p = append(append(p, uint8(len(contentType))), contentType...)
	p = append(binary.BigEndian.AppendUint32(p, uint32(len(headers))), headers...)
	p = append(p, amqp.Transient)
	id := ids[i%len(ids)]
	return append(append(p, uint8(len(id))), id...)
}

func appendString(dst []byte, key, value string) []byte {
	dst = append(append(dst, uint8(len(key))), key...)
	dst = binary.BigEndian.AppendUint32(append(dst, 'S'), uint32(len(value)))
	return append(dst, value...)
}

// ourMessage is a template, and ourID fills in what differs.
func ourMessage(j *Job) amqp.Message {
	m := amqp.Message{Body: make([]byte, j.Body)}
	if j.Props {
		m.Properties = amqp.Properties{
			ContentType: contentType, DeliveryMode: amqp.Transient,
			Headers: amqp.Table{"tenant": tenant, "attempt": attempt, "traceparent": trace},
		}
	}
	return m
}

func officialMessage(j *Job) official.Publishing {
	m := official.Publishing{Body: make([]byte, j.Body)}
	if j.Props {
		m.ContentType, m.DeliveryMode = contentType, official.Transient
		m.Headers = official.Table{"tenant": tenant, "attempt": attempt, "traceparent": trace}
	}
	return m
}
