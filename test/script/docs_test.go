//go:build root

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamplesOfUnions runs what docs/union.md shows of running containers.
func TestExamplesOfUnions(t *testing.T) {
	text, err := os.ReadFile("../../docs/union.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```sh\n")
	example, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("docs/union.md has no example")
	}
	dir := workdir(t)
	e := startTaredIn(t, dir, "--storage-driver", "aufs")
	e.docker = filepath.Join(programs(t), "tare")
	e.load(t, "busybox.tar")
	defer e.output(t, "rm", "-f", "box", "shop")
	cmd := exec.Command("bash", "-exo", "pipefail", "-c", example)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.socket, "PATH="+programs(t)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"sleep", "patched", "added image busybox:latest", "directory"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
