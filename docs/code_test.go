package docs

import (
	"go/doc"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```")

// What the documentation shows in Go is compiled and run: it stands, word for word, in an example.
func TestCodeIsRun(t *testing.T) {
	programs := map[string]string{}
	for name, text := range inOrder(read(t, ".go")) {
		if isRun(t, name, text) {
			programs[name] = words(text)
		}
	}
	blocks := 0
	for name, text := range inOrder(pages(t)) {
		for _, block := range fence.FindAllStringSubmatch(text, -1) {
			switch block[1] {
			case "go":
				blocks++
				assert.True(t, stands(programs, words(block[2])), "%s: in no example that is run:\n%s", name, block[2])
			case "":
				assert.Fail(t, "a block without a language", "%s:\n%s", name, block[2])
			}
		}
	}
	require.GreaterOrEqual(t, blocks, 10)
}

// isRun tells whether a file is a program that the tests of package examples run, or one whose examples run as tests.
func isRun(t *testing.T, name, text string) bool {
	t.Helper()
	if strings.HasPrefix(name, "examples/") && path.Base(name) == "main.go" {
		return true
	}
	if !strings.HasPrefix(path.Base(name), "example") || !strings.HasSuffix(name, "_test.go") {
		return false
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
	require.NoError(t, err)
	for _, e := range doc.Examples(f) {
		assert.True(t, e.Output != "" || e.EmptyOutput, "%s: Example%s has no output, so that nobody runs it", name, e.Name)
	}
	return true
}

func stands(programs map[string]string, code string) bool {
	for _, text := range programs {
		if strings.Contains(text, code) {
			return true
		}
	}
	return false
}

// The commands that the documentation gives name programs, tasks and folders that exist.
func TestCommandsAreRight(t *testing.T) {
	commands := 0
	tasks := read(t, ".yml")["Taskfile.yml"]
	for name, text := range inOrder(pages(t)) {
		for _, block := range fence.FindAllStringSubmatch(text, -1) {
			if block[1] != "sh" {
				continue
			}
			dir := root
			for line := range strings.Lines(block[2]) {
				line, _, _ = strings.Cut(line, "#")
				for command := range strings.SplitSeq(line, "&&") {
					commands++
					dir = checkCommand(t, name, dir, tasks, strings.Fields(command))
				}
			}
		}
	}
	require.Greater(t, commands, 5)
}

// checkCommand returns the folder in which the next command runs.
func checkCommand(t *testing.T, page, dir, tasks string, words []string) string {
	t.Helper()
	for len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:]
	}
	if len(words) == 0 {
		return dir
	}
	if words[0] == "task" && len(words) > 1 {
		assert.Contains(t, tasks, "\n  "+words[1]+":\n", "%s: no such task", page)
		return dir
	}
	if words[0] == "cd" {
		dir = path.Join(dir, words[1])
		assert.DirExists(t, dir, "%s: cd", page)
		return dir
	}
	for _, w := range words {
		if strings.HasPrefix(w, "./") || strings.HasPrefix(w, ".ci/") {
			there := path.Join(dir, strings.TrimSuffix(w, "..."))
			assert.True(t, exists(there), "%s: there is no %s", page, there)
		}
	}
	return dir
}
