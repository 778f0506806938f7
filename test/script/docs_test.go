//go:build root

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// exampleOf is the first example of shell in a section of docs/union.md.
func exampleOf(t *testing.T, section string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/union.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), section+"\n")
	_, rest, begins := strings.Cut(rest, "```sh\n")
	example, _, ends := strings.Cut(rest, "```\n")
	if !found || !begins || !ends {
		t.Fatalf("docs/union.md has no example in %q", section)
	}
	return example
}

// TestExampleOfAufs runs what docs/union.md shows of a tree of Docker's driver
// aufs, on one that is made in its form.
func TestExampleOfAufs(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{
		"image/aufs/layerdb/mounts/c0ffee/mount-id": "top",
		"aufs/layers/top":                "top-init\nbase\n",
		"aufs/diff/top/.wh.gone":         "",
		"aufs/diff/top/.wh..wh.plnk/5.6": "",
		"aufs/diff/top/.wh..wh.aufs":     "",
		"aufs/diff/top/new":              "1",
		"aufs/diff/top-init/.dockerenv":  "",
		"aufs/diff/base/gone":            "2",
		"aufs/diff/base/stays":           "3",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := treeOf(t, dir)
	example := strings.NewReplacer("/var/lib/docker", dir, "/mnt/old", t.TempDir()).Replace(exampleOf(t, "## Trees of Docker's driver aufs"))
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "bash", "-eo", "pipefail", "-c", example)
	cmd.Env = append(os.Environ(), "PATH="+programs(t)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if shown := string(out); !strings.Contains(shown, "new") || !strings.Contains(shown, "stays") || strings.Contains(shown, "gone") {
		t.Errorf("it shows\n%s", out)
	}
	if after := treeOf(t, dir); after != before {
		t.Errorf("the directories have changed:\n%s\nwere\n%s", after, before)
	}
}

// treeOf lists files with their times and sizes.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-printf", "%p %T@ %s\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestExamplesOfUnions runs what docs/union.md shows of running containers.
func TestExamplesOfUnions(t *testing.T) {
	example := exampleOf(t, "## Running containers")
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
