package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

func ExampleWithConnection() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		err := amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			conn.Go(func(ctx context.Context) error { // WithConnection waits for it
				fmt.Println("a task in the connection's scope")
				return nil
			})
			return nil
		})
		fmt.Println("over:", err, len(broker.Connections()))
		return nil
	})
	// Output:
	// a task in the connection's scope
	// over: <nil> 0
}

// What dies, cancels: the task learns why the connection was lost, and so does the caller.
func ExampleWithConnection_lost() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		err := amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			broker.CloseConnections(320, "CONNECTION_FORCED - maintenance")
			<-conn.Context().Done()
			fmt.Println("inside:", context.Cause(conn.Context()))
			return nil
		})
		fmt.Println("outside:", errors.Is(err, amqp.ConnectionForced))
		return nil
	})
	// Output:
	// inside: the broker closed the connection: 320 CONNECTION_FORCED - maintenance
	// outside: true
}

func ExampleWithChannel() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true})
			fmt.Println(queue.Name, queue.Messages, queue.Consumers)
			return err
		})
	})
	// Output: jobs 0 0
}

// Channels are cheap: one for each concern keeps the failure of one from the others.
func ExampleConn_WithChannel() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			return ch.QueueBind(ctx, amqp.Binding{Queue: "missing", Exchange: "amq.fanout"})
		})
		fmt.Println(err)
		return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			fmt.Println("the connection goes on, with channel", ch.ID())
			return nil
		})
	})
	// Output:
	// amqp: bind queue "missing" to exchange "amq.fanout": the broker closed the channel: 404 NOT_FOUND - no queue 'missing' in vhost '/' (at queue.bind)
	// the connection goes on, with channel 1
}

func ExampleChannel_ID() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		return conn.WithChannel(ctx, func(first *amqp.Channel) error {
			return conn.WithChannel(ctx, func(second *amqp.Channel) error {
				fmt.Println(first.ID(), second.ID())
				return nil
			})
		})
	})
	// Output: 1 2
}

func ExampleParseURI() {
	cfg, err := amqp.ParseURI("amqps://ann:s%2Fecret@rabbit.example.com/shop?heartbeat=10&connection_name=till")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cfg.Host, cfg.Login, cfg.Password, cfg.VirtualHost, cfg.Heartbeat, cfg.ConnectionName, cfg.TLS != nil)
	fmt.Println(cfg)

	_, err = amqp.ParseURI("http://rabbit.example.com")
	fmt.Println(err)
	// Output:
	// rabbit.example.com ann s/ecret shop 10s till true
	// amqps://ann@rabbit.example.com:5671/shop
	// amqp: URI: it starts with neither amqp:// nor amqps://
}

// A token that expires is asked for at every connect.
func ExampleConfig() {
	broker := amqptest.NewBroker(amqptest.WithUser("service", "token-1"))
	defer broker.Close()
	cfg := amqp.Config{
		ConnectionName: "shop",
		Heartbeat:      10 * time.Second,
		Dial:           broker.Dial, // in memory; leave it out to use the network
		Credentials: func(context.Context) (login, password string, err error) {
			return "service", "token-1", nil
		},
	}
	err := amqp.WithConnection(context.Background(), cfg, func(*amqp.Conn) error {
		for _, c := range broker.Connections() {
			fmt.Println(c.Name, c.User, c.Heartbeat)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// shop service 10s
	// <nil>
}

func ExampleConfig_String() {
	cfg := amqp.Config{Host: "rabbit.example.com", Login: "ann", Password: "secret"}
	fmt.Println(cfg)
	fmt.Printf("%#v\n", cfg)
	// Output:
	// amqp://ann@rabbit.example.com:5672/%2F
	// amqp.Config{amqp://ann@rabbit.example.com:5672/%2F}
}

// No verb shows a secret, not even one that is meant for something else.
func ExampleConfig_Format() {
	var cfg any = amqp.Config{Login: "ann", Password: "secret"}
	fmt.Printf("%d\n", cfg)
	// Output:
	// amqp://ann@localhost:5672/%2F
}

// A passive look that costs nothing when the queue is not there.
func ExampleConn_QueueStatus() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		_, err := conn.QueueStatus(ctx, "missing")
		fmt.Println(errors.Is(err, amqp.NotFound), conn.Context().Err())
		return nil
	})
	// Output: true <nil>
}

func ExampleConn_ExchangeExists() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		for _, name := range []string{"amq.topic", "missing"} {
			found, err := conn.ExchangeExists(ctx, name)
			fmt.Println(name, found, err)
		}
		return nil
	})
	// Output:
	// amq.topic true <nil>
	// missing false <nil>
}

// Publish waits by itself while the broker has an alarm. Blocked is for those who want to know.
func ExampleConn_Blocked() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		cfg.Logger = quiet // an alarm is a warning
		return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			changes := conn.Blocked() // from here on nothing is missed
			broker.Block("low on memory")
			conn.Go(func(ctx context.Context) error {
				return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
					return ch.Publish(ctx, "amq.fanout", "", amqp.Message{}) // RabbitMQ tells those who publish
				})
			})
			for blocked, reason := range changes {
				fmt.Printf("%t %q\n", blocked, reason)
				if !blocked {
					break
				}
				broker.Unblock()
			}
			return nil
		})
	})
	// Output:
	// true "low on memory"
	// false ""
}

func ExampleConn_UpdateSecret() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			if err := conn.UpdateSecret(ctx, "token-2", "the old one expires"); err != nil {
				return err
			}
			fmt.Println(broker.Connections()[0].LastSecret)
			return nil
		})
	})
	// Output: token-2
}

func ExampleConn_Tuning() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		cfg.Heartbeat = 10 * time.Second
		return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			t := conn.Tuning()
			fmt.Println(t.ChannelMax, t.FrameMax, t.Heartbeat)
			return nil
		})
	})
	// Output: 2047 131072 10s
}

func ExampleConn_ServerProperties() {
	onConn(func(_ context.Context, conn *amqp.Conn) error {
		capabilities, _ := conn.ServerProperties()["capabilities"].(amqp.Table)
		fmt.Println(capabilities["publisher_confirms"])
		return nil
	})
	// Output: true
}

func ExampleConn_RemoteAddr() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			fmt.Println(conn.RemoteAddr().String() == fmt.Sprint(cfg.Host, ":", cfg.Port))
			return nil
		})
	})
	// Output: true
}

func ExampleConn_LocalAddr() {
	onConn(func(_ context.Context, conn *amqp.Conn) error {
		fmt.Println(conn.LocalAddr().Network())
		return nil
	})
	// Output: tcp
}

func ExampleConn_Stats() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			for range 3 {
				if err := ch.Publish(ctx, "amq.fanout", "", amqp.Message{}); err != nil {
					return err
				}
			}
			s := conn.Stats()
			fmt.Println(s.Published, s.Delivered, s.Channels)
			return nil
		})
	})
	// Output: 3 0 1
}

func ExampleTrace() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		cfg.Trace = &amqp.Trace{
			Connected:     func(*amqp.Conn) { fmt.Println("connected") },
			ChannelOpened: func(ch *amqp.Channel) { fmt.Println("channel", ch.ID(), "opened") },
			ChannelClosed: func(ch *amqp.Channel, err error) { fmt.Println("channel", ch.ID(), "closed:", err) },
			Closed:        func(_ *amqp.Conn, err error) { fmt.Println("closed:", err) },
		}
		return amqp.WithChannel(ctx, cfg, func(*amqp.Channel) error { return nil })
	})
	// Output:
	// connected
	// channel 1 opened
	// channel 1 closed: <nil>
	// closed: <nil>
}

// One set of hooks counts, the other prints.
func ExampleJoinTraces() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		var confirmed, failed atomic.Int64
		counts := &amqp.Trace{Confirmed: func(_ *amqp.Channel, info amqp.ConfirmInfo) {
			if info.Err != nil {
				failed.Add(1)
			} else {
				confirmed.Add(1)
			}
		}}
		prints := &amqp.Trace{Returned: func(_ *amqp.Channel, ret *amqp.Return) { fmt.Println("came back:", ret.ReplyText) }}
		cfg.Trace = amqp.JoinTraces(counts, prints)
		err := amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			return ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
				_, err := p.Publish(ctx, "", "nobody", amqp.Message{})
				return err
			})
		})
		fmt.Println(errors.Is(err, amqp.ErrReturned), confirmed.Load(), failed.Load())
		return nil
	})
	// Output:
	// came back: NO_ROUTE
	// true 0 1
}

func ExampleConn_Format() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			text := fmt.Sprintf("%+v", conn)
			fmt.Println(text == fmt.Sprintf("amqp.Conn(%v)", conn.RemoteAddr()))
			return nil
		})
	})
	// Output: true
}
