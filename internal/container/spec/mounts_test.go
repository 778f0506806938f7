package spec

import (
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// Docker's rule for what has the engine's directory: the host's later mounts
// come in, and none is kept that the host takes away.
func TestBindsAroundTheDataRoot(t *testing.T) {
	rules := MountRules{DataRoot: "/var/lib/tare"}
	for bind, want := range map[string]string{
		"/:/x":                        "rslave",
		"/var/lib:/x":                 "rslave",
		"/var/lib/tare:/x:ro":         "rslave",
		"/var/lib/tare/containers:/x": "rslave",
		"/var/lib/tare2:/x":           "rprivate",
		"/etc:/x":                     "rprivate",
		"/:/x:rshared":                "rshared",
		"/:/x:rslave":                 "rslave",
		"/:/x:private":                `must use either propagation mode "rslave" or "rshared"`,
		"/var/lib/tare:/x:rprivate":   `must use either propagation mode "rslave" or "rshared"`,
		"/etc:/x:private":             "private",
	} {
		h := &container.HostConfig{Binds: []string{bind}}
		err := validateMounts(h, rules)
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", bind, err)
			}
			continue
		}
		if m := Mounts(h, rules); len(m) != 1 || string(m[0].Propagation) != want {
			t.Errorf("%s: %+v, want %s", bind, m, want)
		}
	}
	h := &container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeBind, Source: "/", Target: "/x"}, {Type: mount.TypeTmpfs, Target: "/y"}}}
	if m := Mounts(h, rules); len(m) != 2 || m[0].Propagation != mount.PropagationRSlave || m[1].Propagation != "" {
		t.Errorf("%+v", m)
	}
	if m := Mounts(h, MountRules{}); m[0].Propagation != mount.PropagationRPrivate {
		t.Errorf("%+v", m)
	}
}

func TestReadOnlyBindsOfOldClientsAreShallow(t *testing.T) {
	dir := t.TempDir()
	for shallow, want := range map[bool][]string{false: {"rbind", "ro", "rro", "rprivate"}, true: {"rbind", "ro", "rprivate"}} {
		s := makeSpecOf(t, func(in *Input) {
			in.Mounts.Shallow = shallow
			in.HostConfig.Binds = []string{dir + ":/x:ro"}
		})
		if got := s.Mounts[len(s.Mounts)-1].Options; !slices.Equal(got, want) {
			t.Errorf("shallow %v: %q", shallow, got)
		}
	}
}
