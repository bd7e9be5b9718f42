package api_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the text files again")

const module = "github.com/leveret-mq/leveret"

// packages are those that others may import.
var packages = []string{"amqp", "amqp/rpc", "amqp/amqptest", "scope", "iter"}

// The public API is what the text files say.
func TestTheExportedSurfaceChangedOnPurpose(t *testing.T) {
	load := loader(t)
	for _, name := range packages {
		t.Run(name, func(t *testing.T) {
			pkg, err := load.Import(module + "/" + name)
			require.NoError(t, err)
			have := strings.Join(surface(pkg), "\n") + "\n"
			file := strings.ReplaceAll(name, "/", "_") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(have), 0o644)) // #nosec G306 -- it is a source file
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))
			assert.Equal(t, strings.Split(string(want), "\n"), strings.Split(have, "\n"),
				"the public API has changed; if that is on purpose: go test ./api -update, and a line in CHANGELOG.md")
		})
	}
}

// No package that others may import is forgotten.
func TestEveryPublicPackageHasAFile(t *testing.T) {
	var public []string
	for _, path := range list(t, "{{.ImportPath}}{{if eq .Name \"main\"}}/internal/{{end}}") {
		name := strings.TrimPrefix(path, module+"/")
		outside := strings.Contains(path, "/internal/") || strings.HasPrefix(name, "docs") ||
			strings.HasPrefix(name, "examples") || strings.HasPrefix(name, "integration")
		if !outside && name != "api" {
			public = append(public, name)
		}
	}
	assert.ElementsMatch(t, packages, public)
}

// loader imports packages from the compiler's export data.
func loader(t *testing.T) types.Importer {
	t.Helper()
	export := map[string]string{}
	for _, line := range list(t, "{{.ImportPath}}={{.Export}}", "-export", "-deps") {
		path, file, _ := strings.Cut(line, "=")
		export[path] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if export[path] == "" {
			return nil, fmt.Errorf("go list knows no export data of %s", path)
		}
		return os.Open(export[path])
	})
}

// list runs go list on the module.
func list(t *testing.T, format string, flags ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"list", "-f", format}, flags...), "./...")...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("go list: %s", exit.Stderr)
	}
	require.NoError(t, err)
	return strings.Fields(string(out))
}

// What can break a program has a line.
func TestSurfaceListsEveryKindOfDeclaration(t *testing.T) {
	const code = `package p
import "io"
const A, b = 1, 2
const C Kind = "c"
type Kind string
func (Kind) String() string { return "" }
var V, v error
func F[T any](x T, more ...int) (n int, err error) { return 0, nil }
func f() {}
type S struct { *E; hidden; X, y int; Z func(a int) }
type E struct{}
func (*E) ViaE() {}
type hidden struct{ H int }
func (hidden) ViaHidden() {}
func (*S) Pointer() {}
func (s *S) private() {}
type Plain struct{ X int }
type I interface { io.Reader; M(x int); m() }
type Alias = Plain
type G[K comparable, V any] map[K]V
type Seq[T any] = func(func(T) bool)
`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", code, 0)
	require.NoError(t, err)
	pkg, err := (&types.Config{Importer: loader(t)}).Check("p", fset, []*ast.File{file}, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{
		"const A untyped int = 1",
		"type Alias = Plain",
		`const C Kind = "c"`,
		"type E struct",
		"func (*E) ViaE()",
		"func F[T any](x T, more ...int) (n int, err error)",
		"type G[K comparable, V any] map[K]V",
		"type I interface",
		"interface I, M(x int)",
		"interface I, Read(p []byte) (n int, err error)",
		"interface I, with unexported methods",
		"type Kind string",
		"func (Kind) String() string",
		"type Plain struct",
		"struct Plain, X int",
		"type S struct",
		"struct S, embedded *E",
		"struct S, X int",
		"struct S, Z func(a int)",
		"struct S, with unexported fields",
		"func (*S) Pointer()",
		"func (S) ViaHidden()",
		"type Seq[T any] = func(func(T) bool)",
		"var V error",
	}, surface(pkg))
}
