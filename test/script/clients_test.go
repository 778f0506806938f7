//go:build root

package script

import (
	"os"
	"path/filepath"
	"testing"
)

// TestBuildClients runs the sessions of other programs that build, plugins of docker's
// command line. `make client-test` makes them, which takes minutes.
func TestBuildClients(t *testing.T) {
	plugins := os.Getenv("TARE_CLIENTS")
	if plugins == "" {
		t.Skip("runs with make client-test")
	}
	files, err := filepath.Glob("testdata/clients/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	e := startTared(t)
	e.plugins = plugins
	run(t, e, dockerCLI(t), files)
}
