package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/tare-engine/tare/api"
)

// fields is a JSON object; at finds a value by its path, "A.B.C".
type fields map[string]any

func (f fields) at(path string) (any, bool) {
	var v any = map[string]any(f)
	for part := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[part]; !ok {
			return nil, false
		}
	}
	return v, true
}

// get returns an answer as an object; of a list the first element.
func get(t *testing.T, c *http.Client, target string) fields {
	t.Helper()
	res, body := do(t, c, "GET", target, "", "")
	if res.StatusCode != 200 {
		t.Fatalf("%s: %d %s", target, res.StatusCode, body)
	}
	var f fields
	body = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(body), "["), "]")
	if err := json.Unmarshal([]byte(body), &f); err != nil {
		t.Fatalf("%s: %v in %s", target, err, body)
	}
	return f
}

// absent stands for a field that must not be there.
const absent = "(absent)"

func TestShapesOfVersions(t *testing.T) {
	c := unixClient(t, newServer(t, &fake{}))
	tests := []struct {
		target, version, path string
		want                  any
	}{
		{"/containers/c1/json", "1.56", "NetworkSettings.IPAddress", absent},
		{"/containers/c1/json", "1.51", "NetworkSettings.IPAddress", "172.17.0.2"},
		{"/containers/c1/json", "1.51", "NetworkSettings.Gateway", "172.17.0.1"},
		{"/containers/c1/json", "1.42", "HostConfig.KernelMemory", absent},
		{"/containers/c1/json", "1.42", "HostConfig.OomKillDisable", nil},
		{"/containers/c1/json", "1.41", "HostConfig.KernelMemory", 0.0},
		{"/containers/c1/json", "1.41", "HostConfig.KernelMemoryTCP", 0.0},
		{"/containers/c1/json", "1.41", "HostConfig.OomKillDisable", false},
		{"/containers/c1/json", "1.41", "HostConfig.NetworkMode", "bridge"},
		{"/containers/c1/json", "1.51", "NetworkSettings.MacAddress", "02:00:00:00:00:01"},
		{"/containers/c1/json", "1.51", "NetworkSettings.SecondaryIPAddresses", nil},
		{"/containers/c1/json", "1.51", "Config.Image", "img"},
		{"/containers/c1/json", "1.51", "Config.OnBuild", nil},
		{"/containers/c1/json", "1.52", "Config.OnBuild", absent},
		{"/containers/c1/json", "1.24", "NetworkSettings.Networks.bridge.IPAddress", "172.17.0.2"},
		{"/containers/c1/json", "1.44", "NetworkSettings.Networks.own.Aliases", []any{"web", fakeID[:12]}},
		{"/containers/c1/json", "1.45", "NetworkSettings.Networks.own.Aliases", []any{"web"}},
		{"/containers/c1/json", "1.47", "ImageManifestDescriptor", absent},
		{"/containers/c1/json", "1.48", "ImageManifestDescriptor.size", 1.0},
		{"/containers/c1/json", "1.55", "HostConfig.Umask", absent},
		{"/containers/c1/json", "1.56", "HostConfig.Umask", 23.0},
		{"/containers/json", "1.51", "Health", absent},
		{"/containers/json", "1.52", "Health.Status", "healthy"},
		{"/containers/json", "1.47", "ImageManifestDescriptor", absent},
		{"/images/json", "1.43", "VirtualSize", 42.0},
		{"/images/json", "1.44", "VirtualSize", absent},
		{"/images/json", "1.42", "RepoTags", []any{"<none>:<none>"}},
		{"/images/json", "1.43", "RepoTags", []any{}},
		{"/images/json", "1.50", "Containers", -1.0},
		{"/images/json", "1.51", "Containers", 1.0},
		{"/images/json", "1.47", "Descriptor", absent},
		{"/images/img/json", "1.43", "VirtualSize", 42.0},
		{"/images/img/json", "1.44", "VirtualSize", absent},
		{"/images/img/json", "1.44", "ContainerConfig.Hostname", ""},
		{"/images/img/json", "1.45", "ContainerConfig", absent},
		{"/images/img/json", "1.49", "Config.Hostname", ""},
		{"/images/img/json", "1.50", "Config.Hostname", absent},
		{"/images/img/json", "1.51", "Config.Env", nil},
		{"/images/img/json", "1.52", "Config.Env", absent},
		{"/images/img/json", "1.51", "Parent", ""},
		{"/images/img/json", "1.52", "Parent", absent},
		{"/info", "1.48", "ContainerdCommit.Expected", "x"},
		{"/info", "1.49", "ContainerdCommit.Expected", absent},
		{"/info", "1.49", "BridgeNfIptables", false},
		{"/info", "1.50", "BridgeNfIptables", absent},
		{"/info", "1.52", "NRI", absent},
		{"/info", "1.24", "ID", "E"},
		{"/system/df", "1.51", "LayersSize", 42.0},
		{"/system/df", "1.51", "ImageUsage", absent},
		{"/system/df", "1.50", "Images", []any{map[string]any{"Containers": 3.0, "Created": 0.0, "Id": "i", "Labels": nil, "ParentId": "", "RepoDigests": []any{}, "RepoTags": []any{}, "SharedSize": 0.0, "Size": 42.0}}},
		{"/system/df", "1.52", "LayersSize", 42.0},
		{"/system/df", "1.52", "ImageUsage.TotalSize", 42.0},
		{"/system/df", "1.52", "ImageUsage.Items", absent},
		{"/system/df?verbose=1", "1.52", "LayersSize", absent},
		{"/system/df", "1.54", "LayersSize", 42.0},
		{"/system/df?verbose=1", "1.54", "LayersSize", absent},
		{"/system/df", "1.53", "ImageUsage.TotalCount", 1.0},
	}
	for _, tt := range tests {
		got, ok := get(t, c, "/v"+tt.version+tt.target).at(tt.path)
		if !ok {
			got = absent
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(tt.want)
		if string(a) != string(b) {
			t.Errorf("%s %s: %s is %s, want %s", tt.version, tt.target, tt.path, a, b)
		}
	}
}

func TestCreateOfOldClients(t *testing.T) {
	f := &fake{}
	c := unixClient(t, newServer(t, f))
	create := func(version, body string) (*container.HostConfig, string) {
		t.Helper()
		res, text := do(t, c, "POST", "/v"+version+"/containers/create", "application/json", body)
		if res.StatusCode != 201 {
			return nil, text
		}
		return f.created.HostConfig, ""
	}
	if hc, _ := create("1.24", `{"Image":"img","HostConfig":{"AutoRemove":true}}`); hc.AutoRemove || hc.IpcMode != "shareable" || hc.CgroupnsMode != "host" {
		t.Errorf("1.24: %+v", hc)
	}
	if hc, _ := create("1.44", `{"Image":"img","HostConfig":{"AutoRemove":true,"Umask":1}}`); !hc.AutoRemove || hc.IpcMode != "" || hc.CgroupnsMode != "" || hc.Umask != nil {
		t.Errorf("1.44: %+v", hc)
	}
	ro := `{"Image":"img","HostConfig":{"Mounts":[{"Type":"bind","Source":"/","Target":"/h","ReadOnly":true}]}}`
	if hc, _ := create("1.43", ro); hc.Mounts[0].BindOptions == nil || !hc.Mounts[0].BindOptions.ReadOnlyNonRecursive {
		t.Errorf("1.43: read-only is recursive")
	}
	if hc, _ := create("1.44", ro); hc.Mounts[0].BindOptions != nil {
		t.Errorf("1.44: read-only is not recursive")
	}
	if _, msg := create("1.43", `{"Image":"img","NetworkingConfig":{"EndpointsConfig":{"b":{},"a":{}}}}`); !strings.Contains(msg, "multiple network endpoints: a, b") {
		t.Errorf("1.43: %q", msg)
	}
	if _, msg := create("1.44", `{"Image":"img","HostConfig":{"Mounts":[{"Type":"volume","Target":"/h","VolumeOptions":{"Subpath":"x"}}]}}`); !strings.Contains(msg, "VolumeOptions.Subpath needs API v1.45 or newer") {
		t.Errorf("1.44: %q", msg)
	}
}

func TestMACAddressOfOldClients(t *testing.T) {
	f := &fake{}
	c := unixClient(t, newServer(t, f))
	tests := []struct{ version, body, network, mac string }{
		{"1.51", `{"Image":"img","MacAddress":"02:00:00:00:00:09"}`, "bridge", "02:00:00:00:00:09"},
		{"1.51", `{"Image":"img","MacAddress":"02:00:00:00:00:09","HostConfig":{"NetworkMode":"own"},"NetworkingConfig":{"EndpointsConfig":{"own":{"Aliases":["a"]}}}}`, "own", "02:00:00:00:00:09"},
		{"1.51", `{"Image":"img","MacAddress":"02:00:00:00:00:09","HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"bridge":{}}}}`, "bridge", "02:00:00:00:00:09"},
		{"1.52", `{"Image":"img","MacAddress":"02:00:00:00:00:09"}`, "", ""},
		{"1.51", `{"Image":"img","MacAddress":""}`, "", ""},
		{"1.43", `{"Image":"img","MacAddress":"02:00:00:00:00:09","HostConfig":{"NetworkMode":"own"},"NetworkingConfig":{"EndpointsConfig":{"0123":{}}}}`, "0123", "02:00:00:00:00:09"},
	}
	for _, tt := range tests {
		f.created = container.CreateRequest{}
		if res, body := do(t, c, "POST", "/v"+tt.version+"/containers/create", "application/json", tt.body); res.StatusCode != 201 {
			t.Errorf("%s: %s", tt.body, body)
			continue
		}
		if tt.network == "" {
			if f.created.NetworkingConfig != nil && len(f.created.NetworkingConfig.EndpointsConfig) > 0 {
				t.Errorf("%s %s: %+v", tt.version, tt.body, f.created.NetworkingConfig)
			}
			continue
		}
		if e := f.created.NetworkingConfig.EndpointsConfig[tt.network]; e == nil || e.MacAddress.String() != tt.mac {
			t.Errorf("%s: endpoint %+v", tt.body, e)
		}
	}
	refused := []struct{ version, body, want string }{
		{"1.51", `{"Image":"img","MacAddress":"nonsense"}`, "invalid JSON: "},
		{"1.43", `{"Image":"img","MacAddress":"02:00:00:00:00:09","HostConfig":{"NetworkMode":"host"}}`, "conflicting options: mac-address and the network mode"},
		{"1.44", `{"Image":"img","MacAddress":"02:00:00:00:00:09","NetworkingConfig":{"EndpointsConfig":{"other":{}}}}`, "HostConfig.NetworkMode must match the identity"},
		{"1.44", `{"Image":"img","MacAddress":"02:00:00:00:00:09","NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"02:00:00:00:00:08"}}}}`, "must match the endpoint-specific MAC address"},
	}
	for _, tt := range refused {
		if res, body := do(t, c, "POST", "/v"+tt.version+"/containers/create", "application/json", tt.body); res.StatusCode != 400 || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s: %d %s", tt.version, tt.body, res.StatusCode, body)
		}
	}
	if _, body := do(t, c, "POST", "/v1.44/containers/create", "application/json", `{"Image":"img","MacAddress":"02:00:00:00:00:09"}`); !strings.Contains(body, "now deprecated") {
		t.Errorf("no warning: %s", body)
	}
}

func TestEmptyPortBindings(t *testing.T) {
	f := &fake{}
	c := unixClient(t, newServer(t, f))
	for version, want := range map[string]struct {
		bindings int
		warning  bool
	}{"1.51": {1, false}, "1.52": {1, true}, "1.53": {0, false}} {
		_, body := do(t, c, "POST", "/v"+version+"/containers/create", "application/json", `{"Image":"img","HostConfig":{"PortBindings":{"80/tcp":[]}}}`)
		if n := len(f.created.HostConfig.PortBindings); n != want.bindings || strings.Contains(body, "empty list of port-bindings: 80/tcp") != want.warning {
			t.Errorf("%s: %d bindings, %s", version, n, body)
		}
	}
}

func TestDefaultNetworkHasOneName(t *testing.T) {
	f := &fake{}
	c := unixClient(t, newServer(t, f))
	do(t, c, "POST", "/containers/create", "application/json", `{"Image":"img","HostConfig":{"NetworkMode":"default","PidsLimit":0},"NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["a"]}}}}`)
	if e := f.created.NetworkingConfig.EndpointsConfig["bridge"]; f.created.HostConfig.NetworkMode != "bridge" || e == nil || len(f.created.NetworkingConfig.EndpointsConfig) != 1 {
		t.Errorf("mode %q, endpoints %v", f.created.HostConfig.NetworkMode, f.created.NetworkingConfig.EndpointsConfig)
	}
	if f.created.HostConfig.PidsLimit != nil {
		t.Error("a limit of 0 is not the default")
	}
}

func TestOptionsReachTheEngine(t *testing.T) {
	f := &fake{}
	c := unixClient(t, newServer(t, f))
	do(t, c, "POST", "/v1.42/containers/c1/stop?t=-1&signal=HUP", "", "")
	if f.stop.Timeout == nil || *f.stop.Timeout != -1 || f.stop.Signal != "HUP" {
		t.Errorf("stop %+v", f.stop)
	}
	do(t, c, "POST", "/v1.41/containers/c1/restart?signal=HUP", "", "")
	if f.stop.Timeout != nil || f.stop.Signal != "" {
		t.Errorf("restart %+v", f.stop)
	}
	do(t, c, "POST", "/exec/e1/resize?h=24&w=80", "", "")
	if f.window != [2]uint16{24, 80} {
		t.Errorf("window %v", f.window)
	}
	do(t, c, "GET", "/v1.40/images/json?filter=busybox", "", "")
	if !f.filters.Exact("reference", "busybox") || !f.filters.Has("reference") {
		t.Errorf("filters %v", f.filters)
	}
	do(t, c, "POST", "/v1.41/volumes/prune", "", "")
	if all, _ := f.filters.Bool("all", false); !all {
		t.Errorf("1.41 prunes %v", f.filters)
	}
	do(t, c, "POST", "/containers/create?rootfs=/", "application/json", `{"Cmd":["true"]}`)
	if f.rootfs != "/" {
		t.Errorf("rootfs %q", f.rootfs)
	}
}

// FuzzCreateBody looks for a body that is neither taken nor the client's fault.
func FuzzCreateBody(f *testing.F) {
	for _, seed := range []string{
		`{"Image":"a"}`, `{}`, `null`, `[`, `{"HostConfig":{"Mounts":[{"Type":"bind","BindOptions":null}]}}`,
		`{"Image":"a","MacAddress":"x","HostConfig":null,"NetworkingConfig":{"EndpointsConfig":{"bridge":null}}}`,
		`{"Image":"a","ExposedPorts":{"80/tcp":{}},"Healthcheck":{"StartInterval":1}}`, `{"Image":"\ud800"}`, `{"a":{"b":[[[]]]}}`,
	} {
		f.Add([]byte(seed), 24)
		f.Add([]byte(seed), 56)
	}
	f.Fuzz(func(t *testing.T, body []byte, minor int) {
		r, _ := http.NewRequest("POST", "/", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		v := api.Version{Major: 1, Minor: minor}
		req, _, err := createRequest(&request{Request: r, version: v, w: noDeadline{}, log: discard})
		switch {
		case err != nil && statusOf(err) >= 500:
			t.Fatalf("%q: %v", body, err)
		case err == nil && (req.Config == nil || req.HostConfig == nil):
			t.Fatalf("%q: half a request", body)
		case err == nil && v.Before(44):
			for _, m := range req.HostConfig.Mounts {
				if m.Type == mount.TypeBind && m.ReadOnly && !m.BindOptions.ReadOnlyNonRecursive {
					t.Fatalf("%q: recursive", body)
				}
			}
		}
	})
}

func TestOldUpdatesChangeWhatTheyDid(t *testing.T) {
	pids := int64(5)
	for version, want := range map[string][2]bool{"1.39": {false, false}, "1.40": {true, false}, "1.54": {true, false}, "1.55": {true, true}} {
		v, ok := api.ParseVersion(version)
		if !ok {
			t.Fatal(version)
		}
		r := container.Resources{Memory: 1, PidsLimit: &pids, BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{}}, BlkioWeightDevice: []*blkiodev.WeightDevice{{}}}
		upgradeUpdate(&r, v)
		if got := [2]bool{r.PidsLimit != nil, r.BlkioDeviceReadBps != nil}; got != want || (r.BlkioWeightDevice != nil) != want[1] || r.Memory != 1 {
			t.Errorf("%s: %+v", version, r)
		}
	}
}
