package amqp091

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/leveret-mq/leveret/amqp/amqptest"
)

var errOver = errors.New("over")

// A worker, with amqp091-go.
func Example_worker() {
	broker := amqptest.NewBroker()
	defer broker.Close()
	jobs := 0
	work := func(_ context.Context, body []byte) error {
		fmt.Printf("did %s\n", body)
		if jobs++; jobs == 2 {
			broker.CloseConnections(320, "CONNECTION_FORCED - enough for an example")
		}
		return nil
	}
	err := worker(context.Background(), broker.URI(), work)
	fmt.Println(err != nil)
	// Output:
	// did one
	// did two
	// true
}

func worker(ctx context.Context, url string, work func(context.Context, []byte) error) error {
	conn, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	if _, err := ch.QueueDeclare("jobs", true, false, false, false, nil); err != nil {
		return err
	}
	if err := publish(ctx, ch); err != nil {
		return err
	}
	if err := ch.Qos(20, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, "jobs", "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for d := range deliveries {
		if work(ctx, d.Body) == nil {
			err = d.Ack(false)
		} else {
			err = d.Nack(false, true)
		}
		if err != nil {
			return err
		}
	}
	if err := <-closed; err != nil {
		return err
	}
	return errOver
}

func publish(ctx context.Context, ch *amqp.Channel) error {
	for _, body := range []string{"one", "two"} {
		if err := ch.PublishWithContext(ctx, "", "jobs", false, false, amqp.Publishing{Body: []byte(body)}); err != nil {
			return err
		}
	}
	return nil
}

// Publishing with confirms, with amqp091-go.
func Example_confirms() {
	broker := amqptest.NewBroker()
	defer broker.Close()
	ctx := context.Background()
	conn, err := amqp.Dial(broker.URI())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(confirmed(ctx, ch, []byte("carrots")))
	// Output: the message was returned: NO_ROUTE
}

func confirmed(ctx context.Context, ch *amqp.Channel, body []byte) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", "jobs", true, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, Body: body,
	})
	if err != nil {
		return err
	}
	acked, err := confirm.WaitContext(ctx)
	if err != nil {
		return err
	}
	select {
	case r := <-returns: // of this message, if nobody else publishes on the channel
		return fmt.Errorf("the message was returned: %s", r.ReplyText)
	default:
	}
	if !acked {
		return errors.New("refused, or the connection was lost")
	}
	return nil
}
