package docs

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	named     = regexp.MustCompile("`((?:[Tt]est|Example)[A-Z_]\\w*)`")
	namedIn   = regexp.MustCompile("\\[`((?:[Tt]est|Example|Fuzz)\\w+)`\\]\\((\\S+)\\)")
	noHeading = regexp.MustCompile(`[^\w\- ]`)
)

// Links lead to files that exist, and to headings that they have.
func TestLinksLeadSomewhere(t *testing.T) {
	all, links := pages(t), 0
	for name, text := range inOrder(all) {
		for _, l := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(l[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			assert.True(t, exists(path.Join(root, target)), "%s: there is no %s", name, target)
			if anchor != "" {
				assert.Contains(t, anchors(all[target]), anchor, "%s: %s", name, l[1])
			}
		}
	}
	require.Greater(t, links, 50)
}

// anchors are the headings of a page as GitHub makes addresses of them.
func anchors(text string) (list []string) {
	for _, h := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		list = append(list, strings.ReplaceAll(noHeading.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	return list
}

// The tests that the documentation names exist, and where it says.
func TestNamedTestsExist(t *testing.T) {
	var all strings.Builder
	sources := read(t, ".go")
	for _, text := range inOrder(sources) {
		all.WriteString(text)
	}
	names := 0
	for page, text := range inOrder(pages(t)) {
		for _, n := range named.FindAllStringSubmatch(text, -1) {
			names++
			assert.Contains(t, all.String(), "\nfunc "+n[1]+"(", "%s", page)
		}
		for _, n := range namedIn.FindAllStringSubmatch(text, -1) {
			source := sources[path.Join(path.Dir(page), n[2])]
			assert.Contains(t, source, "\nfunc "+n[1]+"(", "%s: %s", page, n[2])
		}
	}
	require.Greater(t, names, 50)
}

// Every page of the documentation is in its index.
func TestIndexIsWhole(t *testing.T) {
	all := pages(t)
	for name := range all {
		if dir, file := path.Split(name); dir == "docs/" && file != "README.md" {
			assert.Contains(t, all["docs/README.md"], "]("+file+")", "docs/README.md does not tell of it")
		}
	}
}

// Each picture says what it shows to those who do not see it, and is used.
func TestPicturesAreDescribed(t *testing.T) {
	var text strings.Builder
	for _, page := range inOrder(pages(t)) {
		text.WriteString(page)
	}
	for name, svg := range inOrder(read(t, ".svg")) {
		assert.Contains(t, svg, "<title>", "%s", name)
		assert.Contains(t, text.String(), path.Base(name)+")", "no page shows %s", name)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
