package scope_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync/atomic"
	"time"

	"github.com/leveret-mq/leveret/scope"
)

func ExampleRun() {
	err := scope.Run(context.Background(), func(s *scope.Scope) error {
		s.Go(func(ctx context.Context) error {
			<-ctx.Done() // until a sibling fails
			fmt.Println("told to stop:", context.Cause(ctx))
			return ctx.Err() // an echo, which is left out
		})
		return errors.New("out of paper")
	})
	fmt.Println("returned:", err)
	// Output:
	// told to stop: out of paper
	// returned: out of paper
}

func ExampleScope_Go() {
	var sum atomic.Int64
	err := scope.Run(context.Background(), func(s *scope.Scope) error {
		for n := range int64(5) {
			s.Go(func(context.Context) error {
				sum.Add(n)
				return nil
			})
		}
		return nil // Run waits for the tasks
	})
	fmt.Println(sum.Load(), err)
	// Output: 10 <nil>
}

func ExampleScope_Start() {
	err := scope.Run(context.Background(), func(s *scope.Scope) error {
		var addr net.Addr
		err := s.Start(func(ctx context.Context, started func()) error {
			listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err // Start's error
			}
			defer listener.Close()
			addr = listener.Addr()
			started()
			<-ctx.Done()
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Println("listening on", addr.Network())
		s.Cancel(nil)
		return nil
	})
	fmt.Println(err)
	// Output:
	// listening on tcp
	// <nil>
}

func ExampleScope_Cancel() {
	err := scope.Run(context.Background(), func(s *scope.Scope) error {
		s.Go(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		s.Cancel(nil) // enough, and all is well
		return nil
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleScope_Context() {
	err := scope.Run(context.Background(), func(s *scope.Scope) error {
		s.Go(func(context.Context) error { return errors.New("the lights went out") })
		<-s.Context().Done()
		return context.Cause(s.Context())
	})
	fmt.Println(err)
	// Output: the lights went out
}

func ExampleShield() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the program is shutting down
	err := scope.Shield(ctx, 5*time.Second, func(ctx context.Context) error {
		fmt.Println("saving:", ctx.Err())
		return nil
	})
	fmt.Println(err)
	// Output:
	// saving: <nil>
	// <nil>
}

func ExampleForEach() {
	var total atomic.Int64
	prices := map[string]int64{"tea": 3, "cake": 4, "jam": 2}
	err := scope.ForEach(context.Background(), 2, maps.All(prices), func(_ context.Context, _ string, price int64) error {
		total.Add(price)
		return nil
	})
	fmt.Println(total.Load(), err)
	// Output: 9 <nil>
}

// A device is valid inside of the callback that it is given to, and its tasks are, too.
type device struct{ *scope.Scope }

func withDevice(ctx context.Context, unplug error, body func(*device) error) error {
	h := scope.Open(ctx, nil)
	time.AfterFunc(0, func() { h.Interrupt(unplug) })
	err, echoed := h.Run(func() error { return body(&device{h.Scope()}) })
	if echoed {
		err = errors.Join(unplug, err)
	}
	return err
}

func ExampleOpen() {
	err := withDevice(context.Background(), errors.New("unplugged"), func(d *device) error {
		<-d.Context().Done() // a blocked read, say
		return context.Cause(d.Context())
	})
	fmt.Println(err)
	// Output: unplugged
}

// A failure of the body's own is told beside the interruption, which the owner of the scope reports as it sees fit.
func ExampleHandle_Run() {
	h := scope.Open(context.Background(), nil)
	err, echoed := h.Run(func() error { return errors.New("out of paper") })
	fmt.Println(err, echoed)
	// Output: out of paper false
}

func ExampleHandle_Interrupt() {
	h := scope.Open(context.Background(), nil)
	err, echoed := h.Run(func() error {
		h.Interrupt(errors.New("unplugged"))
		<-h.Scope().Context().Done()
		return h.Scope().Context().Err() // cut short, and says no more than that
	})
	fmt.Println(err, echoed)
	// Output: <nil> true
}

func ExampleHandle_Scope() {
	h := scope.Open(context.Background(), nil)
	h.Scope().Go(func(context.Context) error { // before the body, even
		fmt.Println("a task")
		return nil
	})
	err, _ := h.Run(func() error { return nil })
	fmt.Println(err)
	// Output:
	// a task
	// <nil>
}

func ExampleHandle_Overdue() {
	h := scope.Open(context.Background(), nil)
	told := make(chan struct{})
	h.Overdue(time.Millisecond, func(body bool, tasks int) bool {
		fmt.Println("waiting for the body:", body, "and tasks:", tasks)
		close(told)
		return true
	})
	err, _ := h.Run(func() error {
		h.Scope().Cancel(nil)
		<-told // heeds no context
		return nil
	})
	fmt.Println(err)
	// Output:
	// waiting for the body: true and tasks: 0
	// <nil>
}

func ExampleHandle_OnEnd() {
	h := scope.Open(context.Background(), nil)
	told := make(chan struct{})
	h.OnEnd(func() {
		fmt.Println("over because", context.Cause(h.Scope().Context()))
		close(told)
	})
	_, _ = h.Run(func() error {
		h.Interrupt(errors.New("the connection is lost"))
		<-told
		return nil
	})
	// Output: over because the connection is lost
}
