//go:build !unix

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: CPU time is measured by getrusage, which this system does not have")
	os.Exit(1)
}
