package spec

import (
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestWhatIsTakenForSystemd(t *testing.T) {
	for _, tc := range []struct {
		mode    string
		command []string
		want    bool
	}{
		{"auto", []string{"/sbin/init"}, true},
		{"auto", []string{"/usr/sbin/init", "3"}, true},
		{"auto", []string{"/usr/local/sbin/init"}, true},
		{"auto", []string{"systemd"}, true},
		{"auto", []string{"/lib/systemd/systemd", "--unit=x"}, true},
		{"auto", []string{"sh", "/sbin/init"}, false},
		{"auto", []string{"init"}, false},
		{"auto", nil, false},
		{"always", []string{"sh"}, true},
		{"false", []string{"/sbin/init"}, false},
		{"", []string{"/sbin/init"}, false},
	} {
		h := &container.HostConfig{Annotations: map[string]string{}}
		if tc.mode != "" {
			h.Annotations["tare.systemd"] = tc.mode
		}
		for _, c := range []*container.Config{{Cmd: tc.command}, {Entrypoint: tc.command, Cmd: []string{"more"}}} {
			if tc.command == nil {
				c.Cmd = nil
			}
			if got := IsSystemd(c, h); got != tc.want {
				t.Errorf("%q %q: %v", tc.mode, tc.command, got)
			}
			SetSystemd(c, h)
			if (c.StopSignal == systemdSignal) != tc.want {
				t.Errorf("%q %q: stop signal %q", tc.mode, tc.command, c.StopSignal)
			}
		}
	}
	c := &container.Config{Cmd: []string{"sh"}, StopSignal: "SIGINT"}
	if SetSystemd(c, &container.HostConfig{Annotations: map[string]string{"tare.systemd": "always"}}); c.StopSignal != "SIGINT" {
		t.Errorf("the user's stop signal became %s", c.StopSignal)
	}
}

func TestSystemdMounts(t *testing.T) {
	b := &specBuilder{systemd: true, in: Input{ID: strings.Repeat("ab", 32), CgroupPath: "tare/x", HostConfig: &container.HostConfig{}}}
	targets := func(users map[string]bool) (list []string) {
		for _, m := range b.systemdMounts(users) {
			if m.Type == "tmpfs" {
				list = append(list, m.Destination)
			}
		}
		return list
	}
	if got := targets(nil); !slices.Equal(got, []string{"/run", "/run/lock", "/tmp", "/var/log/journal"}) {
		t.Errorf("tmpfs on %q", got)
	}
	if got := targets(map[string]bool{"/tmp": true, "/run": true}); !slices.Equal(got, []string{"/run/lock", "/var/log/journal"}) {
		t.Errorf("beside the user's: tmpfs on %q", got)
	}
	if got := b.systemdEnv(); !slices.Equal(got, []string{"container=tare", "container_uuid=" + strings.Repeat("ab", 16)}) {
		t.Errorf("environment %q", got)
	}
	b.systemd = false
	if len(b.systemdMounts(nil))+len(b.systemdEnv()) > 0 {
		t.Error("a container without systemd gets what is for it")
	}
}
