package spec

import (
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestParseLogOptions(t *testing.T) {
	const size, files = 10 << 20, 5
	for _, c := range []struct {
		config map[string]string
		want   LogOptions
	}{
		{nil, LogOptions{MaxSize: size, MaxFiles: files}},
		{map[string]string{"max-size": "1k"}, LogOptions{MaxSize: 1000, MaxFiles: 1}},
		{map[string]string{"max-file": "3"}, LogOptions{MaxSize: size, MaxFiles: 3}},
		{map[string]string{"max-size": "-1", "max-file": "3"}, LogOptions{MaxFiles: 3}},
	} {
		if got, err := ParseLogOptions(container.LogConfig{Type: "json-file", Config: c.config}, size, files); err != nil || got != c.want {
			t.Errorf("%v: %+v, %v", c.config, got, err)
		}
	}
}
