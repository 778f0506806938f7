//go:build root

package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// show is what systemd says of a unit's properties, one a line.
func show(t *testing.T, unit string, properties ...string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "--property="+strings.Join(properties, ","), unit).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// sleeper starts a process and returns its pid; it is ended with the test.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// soon waits until systemd knows what has happened.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestScopeUnderSystemd(t *testing.T) {
	if !Running() {
		t.Skip("systemd is not process 1 here")
	}
	u := new(Units)
	defer u.Close()
	name := fmt.Sprintf("tare-test%d.scope", os.Getpid())
	properties := map[string]any{"Description": "a test", "Slice": "tare-test.slice", "Delegate": true, "MemoryMax": uint64(50 << 20)}
	one := sleeper(t)
	if err := u.StartScope(name, one.Process.Pid, properties); err != nil {
		t.Fatal(err)
	}
	want := "Slice=tare-test.slice\nControlGroup=/tare.slice/tare-test.slice/" + name + "\nMemoryMax=52428800\nDescription=a test\nActiveState=active"
	if got := show(t, name, "Slice", "ControlGroup", "MemoryMax", "Description", "ActiveState"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", one.Process.Pid)); err != nil || !strings.Contains(string(b), "/tare.slice/tare-test.slice/"+name) {
		t.Errorf("the process is in %s, %v", b, err)
	}
	if err := u.StartScope(name, sleeper(t).Process.Pid, properties); !isErrorText(err, "already") {
		t.Errorf("a unit that runs was replaced: %v", err)
	}
	if out, err := exec.Command("systemctl", "daemon-reexec").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := u.Set(name, map[string]any{"TasksMax": uint64(7)}); err != nil {
		t.Errorf("after process 1 has been executed anew: %v", err)
	}
	if got := show(t, name, "TasksMax"); got != "TasksMax=7" {
		t.Error(got)
	}
	if err := u.Set("tare-none.scope", map[string]any{"TasksMax": uint64(7)}); err == nil {
		t.Error("a unit that is not there was changed")
	}
	for range 2 { // the second finds nothing
		if err := u.Stop(name); err != nil {
			t.Error(err)
		}
	}
	if got := show(t, name, "LoadState"); got != "LoadState=not-found" {
		t.Errorf("after stop: %s", got)
	}
	one.Wait()
}

// TestScopeAfterAFailureUnderSystemd: systemd keeps a unit that has failed, until
// it is told to forget.
func TestScopeAfterAFailureUnderSystemd(t *testing.T) {
	if !Running() {
		t.Skip("systemd is not process 1 here")
	}
	u := new(Units)
	defer u.Close()
	name := fmt.Sprintf("tare-failing%d.scope", os.Getpid())
	failed := func() bool { return show(t, name, "ActiveState") == "ActiveState=failed" }
	begin := func() {
		t.Helper()
		if err := u.StartScope(name, sleeper(t).Process.Pid, map[string]any{"RuntimeMaxUSec": uint64(1)}); err != nil {
			t.Fatal(err)
		}
		soon(t, "the scope does not fail", failed)
	}
	begin()
	begin() // in place of the one that has failed
	if err := u.Stop(name); err != nil {
		t.Fatal(err)
	}
	if got := show(t, name, "LoadState"); got != "LoadState=not-found" {
		t.Errorf("after stop: %s", got)
	}
}

func isErrorText(err error, text string) bool {
	return err != nil && strings.Contains(err.Error(), text)
}
