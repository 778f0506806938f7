//go:build root

package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImageLinksForSystemDirectories: CVE-2019-19921 and its kind, and nodes
// made on the host through a link in place of /dev.
func TestImageLinksForSystemDirectories(t *testing.T) {
	l := newLab(t)
	for _, name := range []string{"proc", "sys", "dev"} {
		for _, to := range []string{"tmp", "/tmp", "../../../../../../tmp"} {
			dir := rootDir(t)
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			r := l.run(dir, dockerSpec(t, "true"))
			if r.err == nil || !strings.Contains(r.err.Error(), "must be mounted on ordinary directory") {
				t.Errorf("/%s -> %s: %v", name, to, r.err)
			}
		}
	}
}

// TestDevicesOfTheImageDoNotMatter: CVE-2025-31133, a mask made of a link
// instead of the null device, and CVE-2025-52565, the console.
func TestDevicesOfTheImageDoNotMatter(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	for _, n := range []string{"null", "console", "pts", "ptmx", "shm", "zero"} {
		if err := os.Symlink("/proc/sys/kernel/core_pattern", filepath.Join(dir, "dev", n)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	l.expect(dir, sh(t, `wc -c < /proc/keys; echo x > /proc/keys; wc -c < /proc/keys; echo y > /dev/null; (echo '|/x' > /proc/sys/kernel/core_pattern) 2>/dev/null || echo refused`), "0\n0\nrefused\n")
	s := sh(t, "echo z > /dev/console")
	s.Process.Terminal = true
	r, err := l.start(Config{ID: "t", Spec: s, Root: cloneRoot(t, dir), CgroupProcs: l.cgroups})
	if err != nil {
		t.Fatal(err)
	}
	reap(r.pid)
	r.master.Close()
	r.out.Close()
	if after, err := os.ReadFile("/proc/sys/kernel/core_pattern"); err != nil || string(after) != string(before) {
		t.Errorf("core_pattern was %q, is %q", before, after)
	}
}

// TestWorkingDirectoryStaysInside: CVE-2024-21626.
func TestWorkingDirectoryStaysInside(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	if err := os.Symlink("/proc/self/fd/8", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	cwds := []string{"/link", "/proc/self/cwd", "/proc/1/root", "/proc/self/fd/8/../.."}
	for n := 3; n <= 12; n++ {
		cwds = append(cwds, fmt.Sprintf("/proc/self/fd/%d", n))
	}
	for _, cwd := range cwds {
		s := sh(t, "pwd; ls ../..")
		s.Process.Cwd = cwd
		r := l.run(dir, s)
		if r.err == nil || !strings.Contains(r.err.Error(), "set in config.json failed") && !strings.Contains(r.err.Error(), "possible container breakout detected") {
			t.Errorf("%s: %q %v", cwd, r.out, r.err)
		}
	}
	s := sh(t, "pwd; cd ../../../..; ls -d bin")
	s.Process.Cwd = "/tmp/../../../new/deep"
	l.expect(dir, s, "/new/deep\nbin\n")
}
