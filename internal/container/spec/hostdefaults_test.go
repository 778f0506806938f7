package spec

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestHostDefaults(t *testing.T) {
	d := &HostDefaults{
		Log: container.LogConfig{Type: "local", Config: map[string]string{"max-size": "1m", "max-file": "3"}}, Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}, {Name: "core", Soft: 3, Hard: 4}},
		ShmSize: 5, IpcMode: "shareable", CgroupnsMode: "host", CgroupParent: "/p", Init: true, NoNewPrivileges: true, Seccomp: "unconfined",
	}
	h := &container.HostConfig{}
	d.Apply(h)
	if h.LogConfig.Type != "local" || len(h.LogConfig.Config) != 2 || len(h.Ulimits) != 2 || h.ShmSize != 5 || h.IpcMode != "shareable" || h.CgroupnsMode != "host" || h.CgroupParent != "/p" ||
		h.Init == nil || !*h.Init || strings.Join(h.SecurityOpt, " ") != "no-new-privileges=true seccomp=unconfined" {
		t.Errorf("%+v", h)
	}
	off := false
	h = &container.HostConfig{LogConfig: container.LogConfig{Type: "json-file"}, ShmSize: 6, IpcMode: "none", CgroupnsMode: "private", SecurityOpt: []string{"no-new-privileges:false", "seccomp=builtin"}}
	h.Ulimits, h.CgroupParent, h.Init = []*container.Ulimit{{Name: "core", Soft: 7, Hard: 8}}, "/q", &off
	d.Apply(h)
	if h.LogConfig.Type != "json-file" || len(h.LogConfig.Config) != 0 || len(h.Ulimits) != 2 || h.Ulimits[0].Soft != 7 || h.ShmSize != 6 || h.IpcMode != "none" || h.CgroupnsMode != "private" ||
		h.CgroupParent != "/q" || *h.Init || len(h.SecurityOpt) != 2 {
		t.Errorf("%+v", h)
	}
	h = &container.HostConfig{LogConfig: container.LogConfig{Config: map[string]string{"max-file": "9"}}, Privileged: true, Annotations: map[string]string{"tare.systemd": "always"}}
	d.Apply(h)
	if h.LogConfig.Type != "local" || h.LogConfig.Config["max-file"] != "9" || h.LogConfig.Config["max-size"] != "1m" || h.Init != nil || strings.Join(h.SecurityOpt, " ") != "no-new-privileges=true" || h.CgroupnsMode != "" {
		t.Errorf("%+v", h)
	}
	if d.Log.Config["max-file"] != "3" || len(d.Ulimits) != 2 {
		t.Errorf("the defaults are %+v now", d)
	}
}
