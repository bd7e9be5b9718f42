package iter_test

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/leveret-mq/leveret/iter"
)

func ExampleStream() {
	s := iter.NewStream[string]()
	go func() {
		s.Push("tea", "cake")
		s.Push("jam")
		s.End(errors.New("the kitchen has closed"))
	}()
	for order := range s.All() {
		fmt.Println(order)
	}
	fmt.Println(s.Err())
	// Output:
	// tea
	// cake
	// jam
	// the kitchen has closed
}

func ExampleStream_All() {
	s := iter.NewStream[int]()
	s.Push(1, 2, 3)
	for n := range s.All() {
		fmt.Println("first loop:", n)
		break
	}
	s.End(nil)
	for n := range s.All() {
		fmt.Println("second loop:", n)
	}
	// Output:
	// first loop: 1
	// second loop: 2
	// second loop: 3
}

func ExampleStream_AllErr() {
	s := iter.NewStream[int]()
	s.Push(1)
	s.End(errors.New("no more"))
	for n, err := range s.AllErr() {
		fmt.Println(n, err)
	}
	// Output:
	// 1 <nil>
	// 0 no more
}

func ExampleStream_Push() {
	s := iter.NewStream[int]()
	fmt.Println(s.Push(1, 2))
	s.End(nil)
	fmt.Println(s.Push(3))
	// Output:
	// true
	// false
}

func ExampleStream_End() {
	s := iter.NewStream[int]()
	s.Push(1, 2)
	s.End(nil)
	for n := range s.All() {
		fmt.Println(n)
	}
	// Output:
	// 1
	// 2
}

func ExampleStream_Stop() {
	s := iter.NewStream[int]()
	s.Push(1, 2, 3)
	for n := range s.All() {
		fmt.Println("took", n)
		s.Stop(nil)
	}
	fmt.Println("left", s.Drain())
	// Output:
	// took 1
	// left [2 3]
}

func ExampleStream_Drain() {
	s := iter.NewStream[string]()
	s.Push("to", "be", "given", "back")
	s.Stop(nil)
	fmt.Println(s.Len(), s.Drain(), s.Len())
	// Output: 4 [to be given back] 0
}

// A producer that bounds what it pushes between two swaps.
func ExampleStream_OnSwap() {
	const bound = 2
	s := iter.NewStream[int]()
	room := make(chan struct{}, 1)
	s.OnSwap(func() {
		select {
		case room <- struct{}{}:
		default:
		}
	})
	go func() {
		for n := range 6 {
			if n > 0 && n%bound == 0 {
				<-room
			}
			s.Push(n)
		}
		s.End(nil)
	}()
	sum := 0
	for n := range s.All() {
		sum += n
	}
	fmt.Println(sum)
	// Output: 15
}

// A producer without a goroutine: it reads a line each time the loop has nothing left.
func ExampleStream_OnLook() {
	s := iter.NewStream[string]()
	lines := bufio.NewScanner(strings.NewReader("tea\ncake\njam\n"))
	s.OnLook(func() {
		if lines.Scan() {
			s.Push(lines.Text())
		} else {
			s.End(lines.Err())
		}
	})
	for order := range s.All() {
		fmt.Println(order)
	}
	fmt.Println(s.Err())
	// Output:
	// tea
	// cake
	// jam
	// <nil>
}

func ExampleBatches() {
	s := iter.NewStream[int]()
	s.Push(1, 2, 3, 4, 5)
	s.End(nil)
	for batch := range iter.Batches(s, 2, 100*time.Millisecond) {
		fmt.Println(batch)
	}
	// Output:
	// [1 2]
	// [3 4]
	// [5]
}

func ExampleMerge() {
	letters, digits := iter.NewStream[string](), iter.NewStream[string]()
	letters.Push("a", "b")
	letters.End(nil)
	digits.Push("1", "2", "3")
	digits.End(nil)
	for s := range iter.Merge(letters, digits) {
		fmt.Print(s, " ")
	}
	// Output: a 1 b 2 3
}

func ExampleNewStream() {
	s := iter.NewStream[string]()
	fmt.Println(s.Push("tea"), s.Len())
	// Output: true 1
}

// Len is for a producer with a bound.
func ExampleStream_Len() {
	s := iter.NewStream[string]()
	for s.Len() < 3 {
		s.Push("tea")
	}
	for range s.All() {
		break
	}
	fmt.Println(s.Len())
	// Output: 2
}

func ExampleStream_Err() {
	s := iter.NewStream[string]()
	fmt.Println(s.Err())
	s.End(errors.New("the kitchen has closed"))
	fmt.Println(s.Err())
	// Output:
	// <nil>
	// the kitchen has closed
}
