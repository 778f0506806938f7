package spec

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/idrange"
)

const cdiFile = `
cdiVersion: "1.1.0"
kind: vendor.com/toy
containerEdits:
  env: ["TOYS=some"]
devices:
  - name: zero
    containerEdits:
      env: ["TOY=zero"]
      additionalGids: [4321]
      deviceNodes:
        - {path: /dev/toy, hostPath: /dev/zero, permissions: r}
      mounts:
        - {hostPath: /etc, containerPath: /toys, options: [ro, bind]}
  - name: hooked
    containerEdits:
      hooks:
        - {hookName: createRuntime, path: /bin/true}
  - name: net
    containerEdits:
      netDevices:
        - {hostInterfaceName: eth9, name: eth9}
`

func cdiInput(t *testing.T, names ...string) Input {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "toy.yaml"), []byte(cdiFile), 0600); err != nil {
		t.Fatal(err)
	}
	return input(t, func(in *Input) {
		in.CDIDirs = []string{filepath.Join(dir, "nosuch"), dir}
		in.HostConfig.DeviceRequests = []container.DeviceRequest{{Driver: "cdi", DeviceIDs: names}}
	})
}

func TestDeviceByNameIsInjected(t *testing.T) {
	s, err := Of(cdiInput(t, "vendor.com/toy=zero"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(s.Process.Env, "TOYS=some") || !slices.Contains(s.Process.Env, "TOY=zero") {
		t.Error(s.Process.Env)
	}
	if !slices.Contains(s.Process.User.AdditionalGids, 4321) {
		t.Error(s.Process.User)
	}
	rules := s.Linux.Resources.Devices
	if r := rules[len(rules)-1]; !r.Allow || r.Type != "c" || *r.Major != 1 || *r.Minor != 5 || r.Access != "r" {
		t.Errorf("%+v", r)
	}
	if !slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/toy" && d.Major == 1 && d.Minor == 5 }) {
		t.Errorf("%+v", s.Linux.Devices)
	}
	if !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/toys" && m.Source == "/etc" }) {
		t.Errorf("%+v", s.Mounts)
	}
	if at := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/proc" }); at < 0 {
		t.Error("a default mount is gone")
	}
}

// A mapped container may make no node: the host's, which has another name, is
// bound there.
func TestDeviceByNameOfMappedContainer(t *testing.T) {
	in := cdiInput(t, "vendor.com/toy=zero")
	in.IDs = &idrange.Map{UIDs: []specs.LinuxIDMapping{{HostID: 1000, Size: 100}}, GIDs: []specs.LinuxIDMapping{{HostID: 1000, Size: 100}}}
	s, err := Of(in)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/toy" }) {
		t.Errorf("a node is to be made: %+v", s.Linux.Devices)
	}
	if !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/toy" && m.Source == "/dev/zero" }) {
		t.Errorf("%+v", s.Mounts)
	}
}

func TestDeviceByNameThatCannotBe(t *testing.T) {
	for name, want := range map[string]string{
		"vendor.com/toy=nosuch": "CDI device injection failed: unresolvable CDI devices vendor.com/toy=nosuch",
		"vendor.com/toy=hooked": "CDI device injection failed: the device wants hooks",
		"vendor.com/toy=net":    "CDI device injection failed: the device wants network devices",
	} {
		if _, err := Of(cdiInput(t, name)); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for body, want := range map[string]string{
		`[{"Driver":"cdi","DeviceIDs":["zero"]}]`:                            `invalid CDI device name "zero"`,
		`[{"Driver":"cdi","Count":1,"DeviceIDs":["vendor.com/toy=zero"]}]`:   "unexpected count in CDI device request",
		`[{"Driver":"cdi","Options":{"a":"b"},"DeviceIDs":["a.com/toy=b"]}]`: "unexpected options in CDI device request",
	} {
		_, err := Validate("", request(t, `{"Cmd":["true"],"HostConfig":{"DeviceRequests":`+body+`}}`), MountRules{})
		checkRefusal(t, body, err, want)
	}
}
