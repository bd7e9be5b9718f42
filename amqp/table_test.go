package amqp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// A table of the user's is refused at the call, by the path of the key.
func TestTablesSayWhichKeyIsWrong(t *testing.T) {
	loop := amqp.Table{}
	loop["a"] = []any{1, loop}
	for says, table := range map[string]amqp.Table{
		"a.b":     {"a": amqp.Table{"b": make(chan int)}},
		"list[1]": {"list": []any{1, struct{}{}}},
		"deep":    {"deep": loop},
	} {
		_, err := table.Size()
		require.ErrorContains(t, err, says)
	}
	_, err := amqp.Table{
		"nil": nil, "bool": true, "int": 1, "int8": int8(1), "int16": int16(1), "int32": int32(1), "int64": int64(1),
		"uint": uint(1), "uint8": uint8(1), "uint16": uint16(1), "uint32": uint32(1), "uint64": uint64(1),
		"float32": float32(1), "float64": 1.0, "string": "s", "bytes": []byte("b"), "decimal": amqp.Decimal{Scale: 1, Value: 2},
		"table": amqp.Table{}, "map": map[string]any{"k": 1}, "list": []any{1}, "strings": []string{"a"},
	}.Size()
	require.NoError(t, err)
}
