//go:build root

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// userNS gives a spec a user namespace: with maps a new one, with a path that one.
func userNS(path string, ids ...specs.LinuxIDMapping) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	}
}

func TestUserNamespaceIsJoined(t *testing.T) {
	l := newLab(t)
	ids := specs.LinuxIDMapping{HostID: 100000, Size: 65536}
	if err := l.create("a", l.bundle("a", userNS("", ids), "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "a")
	path := fmt.Sprintf("/proc/%d/ns/user", l.state("a").Pid)
	want, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	const script = "readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map; echo $$; hostname; echo x >/dev/null && touch /dev/new && stat -c %u /dev/new"
	look := func(out string) {
		t.Helper()
		f := strings.Fields(out)
		if len(f) != 8 || f[0] != want || f[1] != "0" || f[3] != "100000" || f[5] == "" || f[6] != "tare" || f[7] != "0" {
			t.Errorf("%q", out)
		}
	}
	look(l.sh("path", userNS(path), script))
	look(l.sh("maps", userNS(path, ids), script)) // engines name both
	admin := func(s *specs.Spec) {
		userNS(path)(s)
		c := []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: c, Effective: c, Permitted: c}
	}
	out := l.sh("owner", admin, "mount -t tmpfs none /m && hostname mine && ip link set lo down && hostname; cat /proc/self/setgroups")
	if out != "mine\nallow\n" {
		t.Errorf("what is new does not belong to the namespace that was joined: %q", out)
	}

	// The root is put to its place by root in the namespace, who must get there.
	for _, dir := range []string{l.dir, filepath.Dir(l.dir)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hooked := func(s *specs.Spec) {
		userNS(path)(s)
		s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "readlink /proc/self/ns/user; exit 3"}}}}
	}
	if err := l.create("h", l.bundle("h", hooked, "true")); err == nil || !strings.Contains(err.Error(), "stdout: "+want) {
		t.Error(err)
	}
	if err := l.create("b", l.bundle("b", userNS(path), "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "b")
	look(l.must("exec", "b", "sh", "-c", script))
	if st, err := os.Stat(fmt.Sprintf("/proc/%d", l.state("b").Pid)); err != nil || !strings.Contains(fmt.Sprintf("%+v", st.Sys()), "Uid:100000") {
		t.Errorf("%+v %v", st, err)
	}
}

func TestUserNamespacesThatCannotBeJoined(t *testing.T) {
	l := newLab(t)
	ids := specs.LinuxIDMapping{HostID: 100000, Size: 65536}
	if err := l.create("a", l.bundle("a", userNS("", ids), "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/%d/ns/user", l.state("a").Pid)
	other := ids
	other.HostID++
	for want, change := range map[string]func(*specs.Spec){
		"is it the runtime's own?":       userNS("/proc/self/ns/user"),
		"is a namespace of another type": userNS("/proc/self/ns/net"),
		"is not a namespace":             userNS("/etc/passwd"),
		"no such file or directory":      userNS("/nosuch"),
		"the namespace's maps are not":   userNS(path, other),
		"a user namespace needs a mount n": func(s *specs.Spec) {
			userNS(path)(s)
			s.Linux.Namespaces, s.Hostname = s.Linux.Namespaces[len(s.Linux.Namespaces)-1:], ""
		},
	} {
		l.fails(want, "run", "--bundle", l.bundle("bad", change, "true"), "bad")
		l.gone("bad")
	}
}
