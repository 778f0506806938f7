//go:build root

package script

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/test/fixture/plugin"
)

// pluginLab is an engine with the plugin "fixture".
func pluginLab(t *testing.T) (*engine, *plugin.Plugin) {
	t.Helper()
	p := startPlugin(t)
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	return e, p
}

// mountedBy waits until these have a volume mounted, for the plugin.
func mountedBy(t *testing.T, p *plugin.Plugin, name string, want ...string) {
	t.Helper()
	var got []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got, _ = p.Users(name); slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("volume %s is mounted by %q, want %q", name, got, want)
}

// TestPluginsOutliveEngines: what a plugin has mounted for a container it is told to
// unmount when that ends, also if the engine was killed, or the plugin, or both.
func TestPluginsOutliveEngines(t *testing.T) {
	e, p := pluginLab(t)
	e.output(t, "volume", "create", "-d", "fixture", "data")
	run := func() string {
		return e.output(t, "run", "-d", "--name", "box", "-v", "data:/d", "busybox", "sh", "-c", "echo a >>/d/f; while [ ! -e /d/end ]; do sleep 0.05; done; rm /d/end")
	}
	end := func() {
		if out, err := exec.Command("touch", filepath.Join(e.output(t, "volume", "inspect", "-f", "{{.Mountpoint}}", "data"), "end")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	id := run()
	mountedBy(t, p, "data", id)
	e.kill(t)
	e.rise(t) // it runs: the plugin hears nothing
	mountedBy(t, p, "data", id)
	if calls := strings.Join(p.Calls(), ","); strings.Contains(calls, "Unmount") {
		t.Errorf("the plugin was told %s", calls)
	}
	end()
	mountedBy(t, p, "data")
	e.output(t, "rm", "box")

	id = run()
	at := e.output(t, "volume", "inspect", "-f", "{{.Mountpoint}}", "data")
	e.kill(t)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("touch", filepath.Join(at, "end")).CombinedOutput(); err != nil { // it ends while nobody looks
		t.Fatalf("%v: %s", err, out)
	}
	e.rise(t)
	e.shows(t, "exited", "inspect", "-f", "{{.State.Status}}", "box")
	mountedBy(t, p, "data", id)
	if err := p.Again(); err != nil {
		t.Fatal(err)
	}
	mountedBy(t, p, "data")
	if got := e.output(t, "run", "--rm", "-v", "data:/d", "busybox", "cat", "/d/f"); got != "a\na" {
		t.Errorf("the volume has %q", got)
	}
	e.output(t, "rm", "box")
	e.output(t, "volume", "rm", "data")
}

// TestPluginsThatHang: who waits for a plugin that does not answer waits alone, and gets an
// error when it dies.
func TestPluginsThatHang(t *testing.T) {
	e, p := pluginLab(t)
	for _, method := range []string{"Mount", "Unmount", "Get", "Remove"} {
		e.output(t, "volume", "create", "-d", "fixture", "-o", "hang="+method, strings.ToLower(method))
	}
	waits := exec.Command(e.docker, "-H", "unix://"+e.socket, "run", "--name", "waits", "-v", "mount:/d", "busybox", "true")
	if err := waits.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- waits.Wait() }()
	for end := time.Now().Add(patience); !slices.Contains(p.Calls(), "Mount mount"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the plugin was not asked")
		}
	}
	e.output(t, "ps", "-a")
	e.output(t, "volume", "ls")
	e.output(t, "inspect", "waits")
	e.output(t, "run", "--rm", "-v", "other:/d", "busybox", "true")
	e.output(t, "run", "--rm", "-v", "unmount:/d", "busybox", "true") // its end goes on without the plugin
	select {
	case err := <-ended:
		t.Errorf("the run has ended: %v", err)
	default:
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a volume was mounted by nobody")
	}
	e.output(t, "rm", "waits")
	e.fails(t, `plugin "fixture" not found`, "volume", "rm", "remove")
	for _, name := range []string{"mount", "get", "remove"} {
		e.output(t, "volume", "rm", "-f", name)
	}
	if got := e.output(t, "volume", "ls", "-q", "-f", "driver=fixture"); got != "unmount" {
		t.Errorf("volumes left: %q", got)
	}
}
