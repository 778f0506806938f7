package network

import (
	"testing"

	"github.com/tare-engine/tare/internal/ident"
)

// TestNameOfTheBridge: an empty one is none, as with Docker.
func TestNameOfTheBridge(t *testing.T) {
	id := ident.New()
	for name, want := range map[string]string{"": "br-" + ident.Short(id), "mine": "mine"} {
		if s, err := bridgeSettings(id, map[string]string{optionName: name}); err != nil || s.link != want {
			t.Errorf("%q: %q, %v", name, s.link, err)
		}
	}
	if _, err := bridgeSettings(id, map[string]string{optionName: "a/b"}); err == nil {
		t.Error("a/b")
	}
}
