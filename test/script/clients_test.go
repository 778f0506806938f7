//go:build root

package script

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestClients runs the sessions of test/clients, in which other people's programs work with
// the engine. `make client-test` gets them, which takes minutes.
func TestClients(t *testing.T) {
	programs := os.Getenv("TARE_CLIENTS")
	if programs == "" {
		t.Skip("runs with make client-test")
	}
	files, err := filepath.Glob("../clients/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	const day = "../clients/day.txtar" // that of docker's command line
	e := startTared(t)
	e.plugins = programs
	for name, cli := range map[string]string{"docker20": programs + "/docker20", "docker28": dockerCLI(t), "docker29": programs + "/docker29"} {
		t.Run(name, func(t *testing.T) { run(t, e, cli, []string{day}) })
	}
	run(t, e, dockerCLI(t), slices.DeleteFunc(files, func(f string) bool { return f == day }))
}
