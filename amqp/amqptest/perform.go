package amqptest

import "github.com/leveret-mq/leveret/amqp/internal/wire"

// perform does what a request asks for.
func (c *conn) perform(req request) {
	if req.channel == 0 {
		if req.method != nil {
			c.control(req.method)
		}
		return
	}
	ch := c.channels[req.channel]
	switch req.method.(type) {
	case *wire.ChannelOpen:
		if ch == nil && !c.closing {
			c.open(req.channel)
			return
		}
	case *wire.ChannelClose:
		if ch != nil {
			c.closeChannel(ch)
		}
		return
	case *wire.ChannelCloseOk:
		if ch != nil && ch.closing {
			delete(c.channels, ch.id)
			return
		}
	case nil:
		if ch != nil && !ch.closing {
			c.publish(ch, req)
		}
		return
	}
	if ch == nil || ch.closing {
		return
	}
	ch.flushConfirms()
	if e := ch.handle(req.method); e != nil {
		e.method = req.method.ID()
		ch.refuse(e)
	}
}

// publish takes a message. The reader sends the confirms of those that it has read before it waits for more, and the list
// of whose they are is its own; when a message comes late, it is waiting already.
func (c *conn) publish(ch *channel, req request) {
	due := len(ch.confirms.acked)+len(ch.confirms.nacked) > 0
	if e := ch.publish(req.publication); e != nil {
		e.method = wire.BasicPublishID
		ch.refuse(e)
		return
	}
	if req.late {
		ch.flushConfirms()
	} else if !due && len(ch.confirms.acked)+len(ch.confirms.nacked) > 0 {
		c.confirming = append(c.confirming, ch)
	}
}

func (c *conn) open(id uint16) {
	limit := int(c.channelMax)
	switch {
	case limit > 0 && len(c.channels) >= limit:
		c.refuse(fail(notAllowed, "number of channels opened (%d) has reached the negotiated channel_max (%d)", len(c.channels), limit))
		return
	case limit > 0 && int(id) > limit:
		c.refuse(fail(notAllowed, "channel number %d is above the negotiated channel_max (%d)", id, limit))
		return
	}
	c.channels[id] = newChannel(c, id)
	c.send(id, &wire.ChannelOpenOk{})
}

// closeChannel answers channel.close. When the broker has closed the channel, too, its own close still wants an answer.
func (c *conn) closeChannel(ch *channel) {
	if !ch.closing {
		ch.release()
		delete(c.channels, ch.id)
	}
	c.send(ch.id, &wire.ChannelCloseOk{})
}
