package examples_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the README shows is compiled and run: its Go code stands, word for word, in an example.
func TestReadmeCodeIsRun(t *testing.T) {
	var programs []string
	for path, text := range sources(t) {
		if strings.HasSuffix(path, "main.go") || strings.HasPrefix(filepath.Base(path), "example") {
			programs = append(programs, words(text))
		}
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readme(t), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		found := false
		for _, p := range programs {
			found = found || strings.Contains(p, words(block[1]))
		}
		assert.True(t, found, "in no example:\n%s", block[1])
	}
}

// The tests and files that the README names exist.
func TestReadmeNamesWhatThereIs(t *testing.T) {
	var all strings.Builder
	for _, text := range sources(t) {
		all.WriteString(text)
	}
	names := regexp.MustCompile("`((?:Test|Example)\\w+)`").FindAllStringSubmatch(readme(t), -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		assert.Contains(t, all.String(), "func "+name[1]+"(")
	}
	links := regexp.MustCompile(`\]\(([^:)]+)\)`).FindAllStringSubmatch(readme(t), -1)
	require.NotEmpty(t, links)
	for _, link := range links {
		assert.FileExists(t, onlyFile(filepath.Join("..", filepath.FromSlash(link[1]))))
	}
}

// onlyFile is the path, or a file in it if it is a folder.
func onlyFile(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, "doc.go")
	}
	return path
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	require.NoError(t, err)
	return string(text)
}

// sources are the Go files of the repository.
func sources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	}))
	return all
}

// words is a text without its indentation.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }
