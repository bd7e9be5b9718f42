package api_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// What a tag needs: the version that the client tells the broker is the latest of the changelog, and the one that the
// module beside the root asks for.
func TestTheVersionIsTheSameEverywhere(t *testing.T) {
	for file, pattern := range map[string]string{
		"../CHANGELOG.md":    `(?m)^## \[(\d[^\]]*)\]`,
		"../otelamqp/go.mod": `(?m)^\s+github.com/leveret-mq/leveret v(\S+)`,
	} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		require.NotNil(t, found, file)
		assert.Equal(t, amqp.Version, string(found[1]), file)
	}
}
