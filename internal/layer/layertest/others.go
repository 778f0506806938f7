package layertest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testOthers: who looks for what another driver has made reads which one it is.
func testOthers(t *testing.T, s *site) {
	if _, err := s.Mount(context.Background(), "c1", nil); err == nil || strings.Contains(err.Error(), "--storage-driver") {
		t.Errorf("with one driver: %v", err)
	}
	dir := filepath.Join(s.root, "layers", "another", "x")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "layer.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	if _, err := s.Mount(context.Background(), "c1", nil); err == nil || !strings.Contains(err.Error(), "layers of another: ") {
		t.Errorf("with two drivers: %v", err)
	}
}
