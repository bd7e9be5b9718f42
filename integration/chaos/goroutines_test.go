package chaos

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strconv"
	"strings"
)

// goroutines counts those of the run, which carry its label. Those that a run is
// not to leave behind get a moment to end.
func (r *run) goroutines() int {
	count := labelled(r.t.Name())
	select {
	case <-r.over:
		_ = until(r.t.Context(), "goroutines", func() bool { count = labelled(r.t.Name()); return count == 0 })
	default:
	}
	return count
}

// labelledAs calls do, which counts as part of a run with all that it starts.
func labelledAs(run string, do func()) {
	pprof.Do(context.Background(), pprof.Labels("run", run), func(context.Context) { do() })
}

// labelled counts the goroutines with the label of a run, as a goroutine profile
// shows them: groups that begin with a count and tell their labels in a comment.
func labelled(run string) (total int) {
	var profile bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&profile, 1) // a buffer takes everything
	label := fmt.Sprintf("%q:%q", "run", run)
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		// The first group comes after a line about the whole profile.
		if _, rest, ok := strings.Cut(group, "total "); ok {
			_, group, _ = strings.Cut(rest, "\n")
		}
		number, rest, ok := strings.Cut(group, " @")
		count, err := strconv.Atoi(number)
		if ok && err == nil && strings.Contains(rest, label) {
			total += count
		}
	}
	return total
}
