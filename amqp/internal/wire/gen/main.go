// Command gen writes methods_gen.go from spec.txt. It runs in the folder of package wire: go generate.
package main

import (
	_ "embed"
	"fmt"
	"os"
)

//go:embed spec.txt
var spec string

func main() {
	code, err := generate(spec)
	if err == nil {
		err = os.WriteFile("methods_gen.go", code, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
