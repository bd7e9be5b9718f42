//go:build !unix

package writer

// inline is the attempt to write without waiting, which needs a socket that
// says when it would block.
type inline struct{}

func (*inline) init(any)       {}
func (*inline) able() bool     { return false }
func (*inline) try([]byte) int { return 0 }
