package docs

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the repository, seen from here.
const root = ".."

// pages are the Markdown files of the repository by their paths in it.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := read(t, ".md")
	require.Contains(t, all, "README.md")
	require.Contains(t, all, "docs/README.md")
	return all
}

// read reads the files whose names end in one of these ways.
func read(t *testing.T, endings ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	tree := os.DirFS(root)
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == ".git" || path.Base(name) == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if slices.Contains(endings, path.Ext(name)) {
			text, err := fs.ReadFile(tree, name)
			all[name] = strings.ReplaceAll(string(text), "\r\n", "\n") // as Git has it on Windows
			return err
		}
		return nil
	}))
	return all
}

// inOrder ranges over files by name, so that failures come in the same order each time.
func inOrder(files map[string]string) func(yield func(name, text string) bool) {
	return func(yield func(name, text string) bool) {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if !yield(name, files[name]) {
				return
			}
		}
	}
}

// words is a text without its indentation.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }
