package integration

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Inside package amqp, the vocabulary stands below the machinery: its files
// name nothing that is declared above them. What uses the machinery from
// outside stands on the roof: no file names it.
var (
	vocabulary = [][]string{
		{"errors", "table", "eager_unix", "eager_other"},
		{"frames", "message", "auth"},
	}
	roof = []string{"process", "supervise"}
)

func TestArrowsInsideAMQP(t *testing.T) {
	names := filesNamed(t, filepath.Join("..", "amqp"))
	below := map[string]bool{}
	for _, floor := range vocabulary {
		for _, file := range floor {
			require.Contains(t, names, file, "the plan has a file that is not there")
			for other := range names[file] {
				assert.True(t, below[other] || slices.Contains(floor, other), "%s.go names what is declared in %s.go", file, other)
			}
		}
		for _, file := range floor {
			below[file] = true
		}
	}
	for _, file := range slices.Sorted(maps.Keys(names)) {
		for _, top := range roof {
			require.Contains(t, names, top, "the plan has a file that is not there")
			assert.False(t, names[file][top], "%s.go names what is declared in %s.go", file, top)
		}
	}
}

// filesNamed tells for each file of a package in which other files the
// package's names that it uses are declared. Methods and fields don't count.
func filesNamed(t *testing.T, dir string) map[string]map[string]bool {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	fset := token.NewFileSet()
	fileOf := func(pos token.Pos) string {
		return strings.TrimSuffix(filepath.Base(fset.Position(pos).Filename), ".go")
	}
	names := map[string]map[string]bool{}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, file)
		names[fileOf(file.Pos())] = map[string]bool{}
	}
	// What is imported is of no interest, so that errors about it aren't either.
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	pkg, _ := config.Check("amqp", fset, files, info)
	for ident, object := range info.Uses {
		if object.Parent() == pkg.Scope() && fileOf(object.Pos()) != fileOf(ident.Pos()) {
			names[fileOf(ident.Pos())][fileOf(object.Pos())] = true
		}
	}
	return names
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not wanted") }
