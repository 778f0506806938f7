package rundir

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/process"
)

func made(t *testing.T) Dir {
	t.Helper()
	d := Dir(filepath.Join(t.TempDir(), "run"))
	lock, err := d.Make()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	return d
}

func TestOneKeeperADirectory(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	d := Dir(filepath.Join(t.TempDir(), "run"))
	lock, err := d.Make()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o710, "live": 0o710, "exits": 0o710, "keeper": 0o700, "keeper/lock": 0o600} {
		if st, err := os.Stat(d.Path(name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	if l, err := d.Make(); err == nil || !strings.Contains(err.Error(), "another keeper serves this directory") {
		t.Errorf("%v, %v", l, err)
	}
	lock.Close()
	l, err := d.Make()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestExits(t *testing.T) {
	d := made(t)
	want := wire.Exit{ID: "a", Pid: 12, Status: 3 << 8}
	for _, x := range []wire.Exit{{ID: "a"}, want, {ID: "b", Unknown: true}} {
		if err := d.WriteExit(x); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"cut.json": `{"ID":"cu`, "empty.json": "", "other.json": `{"ID":"c"}`, "a": `{"ID":"a"}`, "c.json.new": `{"ID":"c"}`,
	} {
		if err := os.WriteFile(d.Path("exits", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var aside []string
	exits, err := d.Exits(func(file string, err error) { aside = append(aside, file) })
	if err != nil || len(exits) != 2 || exits["a"] != want || !exits["b"].Unknown {
		t.Errorf("%+v, %v", exits, err)
	}
	slices.Sort(aside)
	if got := strings.Join(aside, " "); got != "a c.json.new cut.json empty.json other.json" {
		t.Errorf("set aside: %s", got)
	}
	for range 2 {
		if err := d.RemoveExit("a"); err != nil {
			t.Error(err)
		}
	}
	exits, _ = d.Exits(func(file string, err error) { t.Errorf("%s is there again", file) })
	if len(exits) != 1 {
		t.Errorf("%+v", exits)
	}
	if st, err := os.Stat(d.Path("exits", "b.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}

func TestFailedWritesLeaveTheOld(t *testing.T) {
	d := made(t)
	if err := d.WriteExit(wire.Exit{ID: "a", Pid: 1}); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.Path("exits", "a.json.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteExit(wire.Exit{ID: "a", Pid: 2}); err == nil {
		t.Error("no error")
	}
	exits, err := d.Exits(func(string, error) {})
	if err != nil || exits["a"].Pid != 1 {
		t.Errorf("%+v, %v", exits, err)
	}
}

func TestProcesses(t *testing.T) {
	d := made(t)
	p := wire.Process{ID: "a", Pid: 1234, StartTicks: 99}
	if err := d.WriteProcess(p); err != nil { // its directory is missing
		t.Fatal(err)
	}
	got, err := d.ReadProcess("a")
	if err != nil || got.Pid != 1234 || got.StartTicks != 99 || !got.OfThisBoot() {
		t.Errorf("%+v, %v", got, err)
	}
	if (Process{BootID: "x"}).OfThisBoot() {
		t.Error("another boot's pid means something")
	}
	f, err := d.OpenPidFile("a")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.WriteFile(d.Path("live", "a", wire.RuntimePid), []byte("5"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.RemoveProcess("a"); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(d.Path("live", "a")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if _, err := d.ReadProcess("a"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(d.Path("live", "a", "process.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadProcess("a"); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a damaged record: %v", err)
	}
}

// TestUnrecorded: between a keeper's clone and its record there is only what
// the child wrote, and a pid that was given away again is none.
func TestUnrecorded(t *testing.T) {
	d := made(t)
	write := func(b []byte) {
		t.Helper()
		f, err := d.OpenPidFile("a")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	le := func(pid int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(pid)) }
	for name, b := range map[string][]byte{"nothing": nil, "half": {1, 2, 3}, "no process": le(1 << 30)} {
		write(b)
		if p, err := d.ReadProcess("a"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	parent := os.Getppid()
	write(le(parent))
	ticks, err := process.StartTicks(parent)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.ReadProcess("a")
	if err != nil || p.ID != "a" || p.Pid != parent || p.StartTicks != ticks || !p.OfThisBoot() {
		t.Errorf("%+v, %v", p, err)
	}
	// Later than this process, by a tick at least, so later than any keeper
	// whose start could be meant.
	young := later(t)
	write(le(young))
	if p, err := d.ReadProcess("a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a process of after the keeper's death: %+v, %v", p, err)
	}
}

// later starts a process with a later tick than this one's.
func later(t *testing.T) int {
	t.Helper()
	ours, err := process.StartTicks(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		cmd := exec.Command("sleep", "100")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		if ticks, err := process.StartTicks(cmd.Process.Pid); err == nil && ticks > ours {
			return cmd.Process.Pid
		}
	}
	t.Fatal("the clock does not go")
	return 0
}

func TestRuntimePid(t *testing.T) {
	d := made(t)
	if err := os.Mkdir(d.Path("live", "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadRuntimePid("a"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for text, want := range map[string]int{"17": 17, "17\n": 17, "": 0, "1": 0, "0": 0, "-1": 0, "x": 0, "1 2": 0} {
		if err := os.WriteFile(d.Path("live", "a", wire.RuntimePid), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := d.ReadRuntimePid("a"); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}
