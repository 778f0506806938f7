package oci

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestScopeOfCgroupsPath(t *testing.T) {
	for path, want := range map[string]string{
		"":                        "system.slice tare-id.scope system.slice/tare-id.scope",
		"system.slice:docker:1":   "system.slice docker-1.scope system.slice/docker-1.scope",
		":p:n":                    "system.slice p-n.scope system.slice/p-n.scope",
		"a-b.slice:p:n":           "a-b.slice p-n.scope a.slice/a-b.slice/p-n.scope",
		"-.slice:p:n":             "-.slice p-n.scope p-n.scope",
		"/a/b":                    `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/a/b" instead`,
		"a.slice:p:n:x":           `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "a.slice:p:n:x" instead`,
		"a.slice:p:pod.slice":     `cgroupsPath "a.slice:p:pod.slice": a container cannot be a slice`,
		"a:p:n":                   "invalid slice name: a",
		"../a.slice:p:n":          "invalid slice name: ../a.slice",
		"a.slice:p:../../b/x":     `invalid name of a scope: "p-../../b/x.scope"`,
		"a.slice:p\n:n":           `invalid cgroup path "a.slice/p\n-n.scope"`,
		"system.slice:" + "x:a.b": "system.slice x-a.b.scope system.slice/x-a.b.scope",
	} {
		s, err := scopeOf(&specs.Spec{Linux: &specs.Linux{CgroupsPath: path}}, "id")
		p := ""
		if err == nil {
			p, err = s.Path()
		}
		got := s.Slice + " " + s.Name + " " + p
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s\nwant %s", path, got, want)
		}
	}
}

func TestPropertiesOfAnnotations(t *testing.T) {
	got, err := unitProperties(map[string]string{
		"org.systemd.property.TimeoutStopUSec": "uint64 123456789", "org.systemd.property.RuntimeMaxSec": "1.5", "org.systemd.property.CollectMode": "'inactive-or-failed'",
		"org.systemd.property.SendSIGHUP": "true", "org.systemd.property.KillSignal": "9", "other": "x",
	})
	want := map[string]any{
		"TimeoutStopUSec": uint64(123456789), "RuntimeMaxUSec": uint64(1500000), "CollectMode": "inactive-or-failed", "SendSIGHUP": true, "KillSignal": int32(9),
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	got, err = unitProperties(map[string]string{"org.systemd.property.After": "['a.service', 'b.service']"})
	if err != nil || !strings.Contains(fmt.Sprint(got["After"]), "b.service") {
		t.Errorf("a list: %v, %v", got, err)
	}
	for name, text := range map[string]string{"ab": "1", "Exec Start": "1", "KillSignal": "x y", "StopSec": "'x'", "StartSec": "-1"} {
		if got, err := unitProperties(map[string]string{propertyPrefix + name: text}); err == nil {
			t.Errorf("%s=%s is %v", name, text, got)
		}
	}
}
