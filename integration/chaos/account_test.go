package chaos

import (
	"fmt"
	"strings"
	"time"
)

// account is the sum of a run.
type account struct {
	sent, confirmed, unknown, unsent, refused int

	consumed, handlings, failed int
	lost                        int // confirmed, and not handled by anybody
	dropped                     int // confirmed, not handled, and maybe in a queue that was deleted
	phantoms                    int // not sent, says Publish, and handled
	pending                     int // Publish has not returned

	// Duplicates by what explains them: a delivery that was not acknowledged when
	// its connection was cut, a message that was not confirmed when its connection
	// was cut, and a broker that forgot by its crash what had been acknowledged.
	redelivered, republished, restored int
	unexplained                        []string

	cuts       map[string]int
	crashes    int
	recoveries []recovery
	unexpected []error
}

// draw draws the account up.
func (b *book) draw() account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := account{
		sent: len(b.messages), confirmed: b.count[confirmed], unknown: b.count[unknown],
		unsent: b.count[unsent], refused: b.count[refused], consumed: b.consumed, failed: b.failed,
		lost: b.lost(), cuts: map[string]int{}, crashes: len(b.crashes), recoveries: b.recoveries, unexpected: b.unexpected,
	}
	for i := range b.messages {
		m := &b.messages[i]
		a.handlings += len(m.handled)
		switch {
		case m.fate == pending:
			a.pending++
		case m.fate == unsent && len(m.handled) > 0:
			a.phantoms++
		case m.fate == confirmed && len(m.handled) == 0:
			a.dropped++
		}
		b.explain(&a, i, m)
	}
	a.dropped -= a.lost
	for _, l := range b.lives {
		if l.lost != nil {
			a.cuts[l.role]++
		}
	}
	return a
}

// explain finds the reason for every handling of m but one.
//
// A message has one copy at the broker, and one more for each publishing
// connection that was lost before the confirm. A copy is handled once, and once
// more for each consuming connection that was lost after handling it, and is
// marked as redelivered then. Handlers on both connections run at the same time,
// so either may be done first. A crash may take the broker back to before an
// acknowledgement, and takes the marks.
func (b *book) explain(a *account, n int, m *message) {
	extra := len(m.handled) - 1
	if extra < 1 {
		return
	}
	first, last := m.handled[0].at, m.handled[extra].at
	take := func(count *int, most int) {
		most = min(most, extra)
		extra -= most
		*count += most
	}
	take(&a.redelivered, cutHandlings(m.handled))
	take(&a.republished, b.cutsWithin("publisher", m.begun, m.ended))
	take(&a.restored, within(b.crashes, first, last))
	if extra > 0 {
		a.unexplained = append(a.unexplained, b.tell(n, m))
	}
}

// cutHandlings counts the handlings that a redelivery may have followed: those on
// connections that were lost, as far as there are others that are marked.
func cutHandlings(all []handling) (cuts int) {
	marked, last := 0, -1
	for i, h := range all {
		if h.redelivered {
			marked++
		}
		if h.redelivered && (last < 0 || h.life.lost == nil) {
			last = i // nothing needs to have followed it
		}
	}
	for i, h := range all {
		if h.life.lost != nil && i != last {
			cuts++
		}
	}
	return min(cuts, marked)
}

// cutsWithin counts the lost connections of a role that ended between two times.
func (b *book) cutsWithin(role string, from, to time.Time) (count int) {
	for _, l := range b.lives {
		if l.role == role && l.lost != nil && !l.closed.Before(from) && !l.closed.After(to) {
			count++
		}
	}
	return count
}

func within(events []time.Time, from, to time.Time) (count int) {
	for _, at := range events {
		if !at.Before(from) && !at.After(to) {
			count++
		}
	}
	return count
}

// tell is the history of a message.
func (b *book) tell(n int, m *message) string {
	var text strings.Builder
	fmt.Fprintf(&text, "message %d, fate %d, confirmed after %v", n, m.fate, m.ended.Sub(m.begun))
	for _, h := range m.handled {
		fmt.Fprintf(&text, "; handled after %v on connection %d (lost: %v), redelivered=%v", h.at.Sub(m.begun), h.life.number, h.life.lost, h.redelivered)
	}
	return text.String()
}

func (a account) duplicates() int { return a.handlings - a.consumed }

// worst is the longest recovery.
func (a account) worst() (longest time.Duration) {
	for _, r := range a.recoveries {
		longest = max(longest, r.confirmed, r.handled)
	}
	return longest
}

// summary is the account in a line.
func (a account) summary() string {
	return fmt.Sprintf("sent %d, confirmed %d, unknown %d, not sent %d, refused %d, consumed %d, duplicates %d of which explained %d, dropped with their queue %d, lost %d, cuts %d, worst recovery %v",
		a.sent, a.confirmed, a.unknown, a.unsent, a.refused, a.consumed, a.duplicates(), a.duplicates()-len(a.unexplained), a.dropped, a.lost,
		a.cuts["publisher"]+a.cuts["consumer"], a.worst().Round(time.Millisecond))
}

// add puts another run's account to this one. Of its recoveries the worst counts.
func (a *account) add(b account) {
	for _, sum := range []struct {
		of *int
		by int
	}{
		{&a.sent, b.sent}, {&a.confirmed, b.confirmed}, {&a.unknown, b.unknown}, {&a.unsent, b.unsent}, {&a.refused, b.refused},
		{&a.consumed, b.consumed}, {&a.handlings, b.handlings}, {&a.failed, b.failed}, {&a.lost, b.lost}, {&a.dropped, b.dropped},
		{&a.phantoms, b.phantoms}, {&a.pending, b.pending}, {&a.redelivered, b.redelivered}, {&a.republished, b.republished},
		{&a.restored, b.restored}, {&a.crashes, b.crashes},
	} {
		*sum.of += sum.by
	}
	a.unexplained, a.unexpected = append(a.unexplained, b.unexplained...), append(a.unexpected, b.unexpected...)
	if a.cuts == nil {
		a.cuts = map[string]int{}
	}
	for role, n := range b.cuts {
		a.cuts[role] += n
	}
	if len(a.recoveries) == 0 || b.worst() > a.worst() {
		a.recoveries = []recovery{{after: "the worst", confirmed: b.worst(), handled: b.worst()}}
	}
}

func (a account) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "sent %d: confirmed %d, outcome unknown %d, not sent %d, refused %d\n", a.sent, a.confirmed, a.unknown, a.unsent, a.refused)
	fmt.Fprintf(&text, "  consumed %d, lost=%d, dropped with their queue %d, arrived although not sent %d\n", a.consumed, a.lost, a.dropped, a.phantoms)
	fmt.Fprintf(&text, "  duplicates %d: %d redelivered after a cut, %d published again after a cut, %d restored after a crash, %d unexplained; handlers failed %d times\n",
		a.duplicates(), a.redelivered, a.republished, a.restored, len(a.unexplained), a.failed)
	fmt.Fprintf(&text, "  cuts: %d of the publisher, %d of consumers; crashes of a broker: %d\n", a.cuts["publisher"], a.cuts["consumer"], a.crashes)
	text.WriteString("  recovery, to the first confirm and the first handled message: ")
	worst := map[string]recovery{}
	times := map[string]int{}
	var order []string
	for _, r := range a.recoveries {
		if times[r.after]++; times[r.after] == 1 {
			order = append(order, r.after)
		}
		w := worst[r.after]
		worst[r.after] = recovery{r.after, max(w.confirmed, r.confirmed), max(w.handled, r.handled), max(w.bystander, r.bystander)}
	}
	for i, after := range order {
		if i > 0 {
			text.WriteString("; ")
		}
		w := worst[after]
		fmt.Fprintf(&text, "%s (%d times) %v and %v at worst, and a bystander %v", after, times[after],
			w.confirmed.Round(time.Millisecond), w.handled.Round(time.Millisecond), w.bystander.Round(time.Millisecond))
	}
	return text.String()
}
