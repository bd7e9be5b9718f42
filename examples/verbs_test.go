package examples_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The documentation runs: every exported function and method has an example whose output is checked. What errors and
// values do by convention needs none.
func TestEveryVerbHasAnExample(t *testing.T) {
	for _, dir := range []string{"amqp", "amqp/rpc", "scope", "iter"} {
		t.Run(dir, func(t *testing.T) {
			files, fset := parse(t, filepath.Join("..", filepath.FromSlash(dir)))
			pkg, err := doc.NewFromFiles(fset, files, dir)
			require.NoError(t, err)
			verbs := 0
			check := func(name string, f *doc.Func) {
				if slices.Contains([]string{"Error", "Unwrap", "Is", "GoString", "LogValue"}, f.Name) || f.Level > 0 {
					return
				}
				verbs++
				run := func(e *doc.Example) bool { return e.Output != "" || e.EmptyOutput }
				assert.True(t, slices.ContainsFunc(f.Examples, run), "Example%s is missing, or has no output", name)
			}
			for _, f := range pkg.Funcs {
				check(f.Name, f)
			}
			for _, typ := range pkg.Types {
				for _, f := range typ.Funcs {
					check(f.Name, f)
				}
				for _, f := range typ.Methods {
					check(typ.Name+"_"+f.Name, f)
				}
			}
			require.NotZero(t, verbs)
		})
	}
}

func parse(t *testing.T, dir string) (files []*ast.File, fset *token.FileSet) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	fset = token.NewFileSet()
	for _, path := range paths {
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, f)
	}
	return files, fset
}
