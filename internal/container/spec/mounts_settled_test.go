package spec

import (
	"reflect"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func TestWantedVolumes(t *testing.T) {
	c := &container.Config{Volumes: map[string]struct{}{"/a": {}, "/image/": {}, "relative": {}, "/inherited": {}, "/tmpfs": {}}}
	h := &container.HostConfig{
		Binds: []string{"named:/a:ro,nocopy", "/host:/b", "/anonymous"}, VolumeDriver: "other", Tmpfs: map[string]string{"/tmpfs": ""},
		Mounts: []mount.Mount{
			{Type: mount.TypeVolume, Source: "m", Target: "/m", ReadOnly: true, VolumeOptions: &mount.VolumeOptions{
				NoCopy: true, Subpath: "p", Labels: map[string]string{"l": "1"}, DriverConfig: &mount.Driver{Name: "d", Options: map[string]string{"o": "2"}},
			}},
			{Type: mount.TypeVolume, Target: "/n"},
		},
	}
	got, err := WantedVolumes(c, h, []Mount{{Target: "/inherited"}})
	if err != nil {
		t.Fatal(err)
	}
	v := mount.TypeVolume
	want := []WantedVolume{
		{Mount: Mount{Type: v, Target: "/a", Mode: "ro,nocopy", ReadOnly: true, Name: "named", Driver: "other", NoCopy: true}},
		{Mount: Mount{Type: v, Target: "/anonymous", Driver: "other", Anonymous: true}},
		{Mount: Mount{Type: v, Target: "/m", ReadOnly: true, Name: "m", Driver: "d", NoCopy: true, Subpath: "p"}, Labels: map[string]string{"l": "1"}, Options: map[string]string{"o": "2"}},
		{Mount: Mount{Type: v, Target: "/n", Anonymous: true}},
		{Mount: Mount{Type: v, Target: "/image", Driver: "other", Anonymous: true}, Configured: true},
		{Mount: Mount{Type: v, Target: "/relative", Driver: "other", Anonymous: true}, Configured: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"/", "/proc/x", "/proc/sys/../y"} { // of an image
		if got, err := WantedVolumes(&container.Config{Volumes: map[string]struct{}{bad: {}}}, &container.HostConfig{}, nil); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
}

func TestInherited(t *testing.T) {
	donor := &container.HostConfig{Binds: []string{"named:/a", "/host:/b:ro", "/:/c"}, Tmpfs: map[string]string{"/t": ""}}
	rules := MountRules{DataRoot: "/var/lib/tare", Settled: []Mount{{Type: mount.TypeVolume, Target: "/a", Mode: "z", Name: "named", Driver: "local", Anonymous: true, Source: "/somewhere"}}}
	got, err := Inherited(Donor{Container: "d", ReadOnly: true}, donor, rules, &container.HostConfig{Binds: []string{"/other:/b"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Mount{
		{Type: mount.TypeBind, Target: "/c", ReadOnly: true, Source: "/", Bind: &mount.BindOptions{}}, // its propagation is chosen again
		{Type: mount.TypeVolume, Target: "/a", ReadOnly: true, Name: "named", Driver: "local", Anonymous: true, NoCopy: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got, err := Inherited(Donor{Container: "d"}, donor, rules, &container.HostConfig{}); err != nil || len(got) != 3 || !got[0].ReadOnly || got[1].ReadOnly {
		t.Errorf("%+v, %v", got, err)
	}
}

// Settled mounts take the place of the requests for them.
func TestSettledMountsShowAndAreMounted(t *testing.T) {
	in := []Mount{{Type: mount.TypeVolume, Target: "/a", Mode: "z", Name: "named", Driver: "local", Source: "/data/named", ReadOnly: true}}
	h := &container.HostConfig{Binds: []string{"named:/a:ro"}}
	got := Mounts(h, MountRules{Settled: in})
	want := []container.MountPoint{{Type: mount.TypeVolume, Name: "named", Source: "/data/named", Destination: "/a", Driver: "local", Mode: "z"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	s := makeSpecOf(t, func(i *Input) { i.HostConfig.Binds, i.Mounts.Settled = h.Binds, in })
	m := s.Mounts[len(s.Mounts)-1]
	if m.Source != "/data/named" || m.Destination != "/a" || !reflect.DeepEqual(m.Options, []string{"rbind", "ro", "rro"}) {
		t.Errorf("%+v", m)
	}
}
