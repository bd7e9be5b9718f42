package docs

import (
	"os"
	"path"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

var (
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	named     = regexp.MustCompile("`((?:[Tt]est|Example)[A-Z_]\\w*)`")
	namedIn   = regexp.MustCompile("\\[`((?:[Tt]est|Example|Fuzz)\\w+)`\\]\\(([^)\\s]+)\\)")
	picture   = regexp.MustCompile(`!\[(.*)\]\(([^)\s]+)\)`)
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
			assert.True(t, strings.Contains(all["docs/README.md"], "]("+file+")"), "docs/README.md does not tell of %s", file) //nolint:testifylint // it would print the page
		}
	}
}

// Each picture is shown, and said in words for those who do not see it.
func TestPicturesAreShownAndDescribed(t *testing.T) {
	shown := map[string]bool{}
	for page, text := range inOrder(pages(t)) {
		for _, p := range picture.FindAllStringSubmatch(text, -1) {
			shown[path.Join(path.Dir(page), p[2])] = true
			assert.Greater(t, len(p[1]), 20, "%s: what does %s show?", page, p[2])
		}
	}
	for name := range inOrder(read(t, ".svg")) {
		assert.True(t, shown[name], "no page shows %s", name)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// The page about observability tells of each hook and each counter.
func TestEveryHookIsDocumented(t *testing.T) {
	page := pages(t)["docs/observability.md"]
	for _, typ := range []reflect.Type{reflect.TypeFor[amqp.Trace](), reflect.TypeFor[amqp.Stats]()} {
		for field := range typ.Fields() {
			assert.True(t, strings.Contains(page, "`"+field.Name+"`"), "%v.%s", typ, field.Name) //nolint:testifylint // it would print the page
		}
	}
}

// The guides to moving tell of each field of what is configured, and of each call of trio-amqp's documentation.
func TestEveryFieldIsInAGuide(t *testing.T) {
	all := pages(t)
	guides := all["docs/from-trio-amqp.md"] + all["docs/from-amqp091-go.md"]
	for _, typ := range []reflect.Type{
		reflect.TypeFor[amqp.Queue](), reflect.TypeFor[amqp.QueueDelete](), reflect.TypeFor[amqp.QueuePurge](),
		reflect.TypeFor[amqp.Binding](), reflect.TypeFor[amqp.Exchange](), reflect.TypeFor[amqp.ExchangeDelete](),
		reflect.TypeFor[amqp.ExchangeBinding](), reflect.TypeFor[amqp.Consume](), reflect.TypeFor[amqp.Qos](),
		reflect.TypeFor[amqp.Message](), reflect.TypeFor[amqp.Envelope](),
	} {
		for f := range typ.Fields() {
			if f.IsExported() {
				assert.Regexp(t, `\b`+f.Name+`\b`, guides, "%v.%s", typ, f.Name)
			}
		}
	}
}
