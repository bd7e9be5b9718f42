// Package proxy stands between an AMQP client and a broker and does to their
// conversation what a bad network does, exactly where a test wants it:
//
//	p, err := proxy.Start("127.0.0.1:5672")
//	defer p.Close()
//	p.OnFrame(func(f proxy.Frame) proxy.Verdict {
//		if f.Direction == proxy.ToClient && f.Is(60, 80) { // basic.ack: a confirm
//			return proxy.Reset
//		}
//		return proxy.Pass
//	})
//
// It sees AMQP frames. Bytes that are none, TLS for example, are passed on as
// they come, and are not shown to the hook.
package proxy
