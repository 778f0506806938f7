//go:build root

package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzOCIConfig gives the runtime configurations of an OCI bundle: each is
// refused, or becomes a plan that the keeper takes. Nothing comes out of the
// root, and no descriptor is left open.
func FuzzOCIConfig(f *testing.F) {
	seed := func(change func(*specs.Spec)) {
		s := dockerSpec(f, "true")
		s.Linux.Seccomp = nil // its own target
		change(s)
		b, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(func(*specs.Spec) {})
	seed(func(s *specs.Spec) { s.Process.Terminal = true; s.Linux.RootfsPropagation = "shared" })
	seed(func(s *specs.Spec) {
		s.Root.Readonly = true
		s.Process.Cwd = "/a/../../b"
		s.Process.User.UID = 1<<32 - 1
	})
	seed(func(s *specs.Spec) { s.Mounts = append(s.Mounts, s.Mounts...); s.Mounts[1].Destination = "../x" })
	seed(func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/self/ns/mnt"; s.Hooks = &specs.Hooks{} })
	seed(func(s *specs.Spec) {
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/../dev/x", Type: "c", Major: -1}, {Path: "x", Type: "p"}}
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel/../x": "\n"}
	})
	seed(func(s *specs.Spec) {
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1 << 31, Size: 1 << 31}}
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: -1}}
	})
	seed(func(s *specs.Spec) { s.Mounts[3].Destination = "/" }) // once left a descriptor
	f.Add([]byte(`{"ociVersion":"1.0.0","process":null,"linux":{"namespaces":[{"type":"mount"},{"type":"mount"}]},"mounts":[{}]}`))
	dir := rootDir(f)
	outside := f.TempDir()
	if err := os.Symlink(outside, dir+"/out"); err != nil {
		f.Fatal(err)
	}
	warm, err := NewStart(Config{ID: "f", Spec: dockerSpec(f, "true"), Root: cloneRoot(f, dir)})
	if err != nil {
		f.Fatal(err)
	}
	warm.Close() // what is opened once stays open
	f.Fuzz(func(t *testing.T, b []byte) {
		var s specs.Spec
		if json.Unmarshal(b, &s) != nil || s.Process == nil || s.Root == nil || hostPaths(&s) {
			return // the first three are refused with the bundle
		}
		if s.Linux == nil {
			s.Linux = &specs.Linux{}
		}
		before := openFiles(t)
		root := cloneRoot(t, dir)
		if start, err := NewStart(Config{ID: "f", Spec: &s, Root: root}); err == nil {
			if err := start.Image.Validate(); err != nil {
				t.Errorf("the keeper would refuse the plan: %v", err)
			}
			start.Close()
		}
		root.Close()
		if n := openFiles(t); n > before {
			t.Errorf("%d files were open, now %d", before, n)
		}
		if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
			t.Errorf("outside: %v %v", left, err)
		}
	})
}

// hostPaths reports whether a configuration names files of the host, which its
// owner may do and a test had better not: what would be opened is anything.
func hostPaths(s *specs.Spec) bool {
	for _, m := range s.Mounts {
		bind := m.Type == "bind"
		for _, o := range m.Options {
			bind = bind || strings.Contains(o, "bind")
		}
		if bind || filepath.IsAbs(m.Source) {
			return true
		}
	}
	if s.Linux != nil {
		for _, n := range s.Linux.Namespaces {
			if n.Path != "" && !strings.HasPrefix(n.Path, "/proc/self/ns/") {
				return true
			}
		}
	}
	return false
}

func openFiles(t *testing.T) int {
	t.Helper()
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(es)
}
