//go:build root

package apparmor

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// remove takes a profile out of the kernel; processes under it are unconfined
// then.
func remove(name string) error {
	f, err := os.OpenFile(securityfs+"/.remove", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name)
	return errors.Join(err, f.Close())
}

// under runs a shell command under the default profile.
func under(t *testing.T, script string) (string, error) {
	t.Helper()
	out, err := exec.Command("sh", "-c", `echo "exec `+DefaultName+`" >/proc/self/attr/apparmor/exec && exec sh -c "$0"`, script).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestRootDefaultProfile(t *testing.T) {
	if !Enabled() {
		t.Skip("this kernel has AppArmor switched off")
	}
	var d Default
	if err := d.Load(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(DefaultName); err != nil {
			t.Error(err)
		}
	})
	if there, err := Loaded(DefaultName); !there || err != nil {
		t.Fatal(there, err)
	}
	if err := remove(DefaultName); err != nil {
		t.Fatal(err)
	}
	if err := d.Ensure(); err != nil { // after a clean-up of somebody
		t.Fatal(err)
	}
	if got, err := under(t, "cat /proc/self/attr/apparmor/current"); err != nil || got != DefaultName+" (enforce)" {
		t.Fatalf("%q, %v", got, err)
	}
	if Current() != "unconfined" {
		t.Errorf("the test is under %s", Current())
	}
	dir := t.TempDir()
	for _, c := range []struct {
		script  string
		allowed bool
	}{
		{"echo x >" + dir + "/f", true},
		{"sh -c 'kill -TERM $$'; true", true},
		{"echo 1 >/proc/self/oom_score_adj", true},
		{"cat /proc/sys/kernel/shmmax >" + dir + "/shm && cat " + dir + "/shm >/proc/sys/kernel/shmmax", true},
		{"mount -t tmpfs x " + dir, false},
		{"mount --bind / " + dir, false},
		{"echo 1 >/proc/sys/vm/drop_caches", false},
		{"cat /proc/sys/kernel/core_pattern >" + dir + "/core && cat " + dir + "/core >/proc/sys/kernel/core_pattern", false},
		{"echo h >/proc/sysrq-trigger", false},
		{": </proc/kcore", false},
		{"ls /sys/kernel/security", true},
		{"cat /sys/kernel/security/apparmor/profiles", false},
		{"kill -0 1", false}, // nobody outside is signalled
		{"grep -c . /proc/1/environ", false},
	} {
		out, err := under(t, c.script)
		if (err == nil) != c.allowed {
			t.Errorf("%s: %v: %s", c.script, err, out)
		}
	}
}

func TestRootParserErrorsAreTold(t *testing.T) {
	if !Enabled() {
		t.Skip("this kernel has AppArmor switched off")
	}
	if err := Load("profile x { nonsense }"); err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Error(err)
	}
	if _, err := os.Stat("/proc/self/attr/apparmor/exec"); err != nil {
		t.Error(err)
	}
}
