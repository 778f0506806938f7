//go:build root

package script

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestComparedSessions holds the number of sessions that say the same of Docker's command
// line and engine as of ours: those that nothing keeps from running with the reference.
func TestComparedSessions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if runsEverywhere(string(b)) {
			compared++
		}
	}
	if compared < 200 {
		t.Errorf("%d sessions of %d run with Docker's engine, not 200", compared, len(files))
	}
}

// runsEverywhere reports whether a session begins, with Docker's command line and engine, with
// something else than its end.
func runsEverywhere(session string) bool {
	for line := range strings.Lines(session) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if !strings.HasPrefix(fields[0], "[") || len(fields) < 2 {
			return true
		}
		if of := fields[0]; fields[1] == "skip" || fields[1] == "stop" {
			if of == "[reference]" || of == "[!tare]" {
				return false
			}
		}
	}
	return false
}
