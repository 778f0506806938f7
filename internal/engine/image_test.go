package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/system"
	"github.com/opencontainers/go-digest"

	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/apparmor"
)

// sizesByChain is a store of layers of which only the sizes are known.
type sizesByChain map[layer.ChainID]int64

func (s sizesByChain) Size(id layer.ChainID) (int64, error) {
	if size, ok := s[id]; ok {
		return size, nil
	}
	return 0, errors.New("no such layer")
}

// imageOf makes an image of layers that are named by a letter each.
func imageOf(name, letters string) *image.Image {
	img := &image.Image{ID: digest.FromString(name), RepoTags: []string{name + ":latest"}, RepoDigests: []string{}, Created: time.Unix(1000, 0), Config: &dockerspec.DockerOCIImage{}}
	for _, l := range letters {
		img.Layers = append(img.Layers, digest.FromString(string(l)))
	}
	return img
}

func TestSizesOfImagesThatShareLayers(t *testing.T) {
	x, y, z := imageOf("x", "ab"), imageOf("y", "ac"), imageOf("z", "ba") // z's layers are x's in another order: other chains
	all := []*image.Image{x, y, z}
	sizes, bytes := sizesByChain{}, int64(1)
	for _, img := range all {
		for _, c := range chains(img) {
			if sizes[c] == 0 {
				sizes[c], bytes = bytes, bytes*10
			}
		}
	}
	// a: 1, ab: 10, ac: 100, b: 1000, ba: 10000
	shared, err := sharedSizes(sizes, all)
	if err != nil || shared[x.ID] != 1 || shared[y.ID] != 1 || shared[z.ID] != 0 {
		t.Errorf("shared: %v, %v", shared, err)
	}
	if _, err := sharedSizes(sizesByChain{}, all); err == nil {
		t.Error("a layer that is missing is no error")
	}
}

func TestImageFilters(t *testing.T) {
	tagged, dangling := imageOf("one/app", "a"), imageOf("two", "b")
	dangling.RepoTags = []string{}
	dangling.Config.Config.Labels = map[string]string{"l": "1"}
	for _, c := range []struct{ filters, want, failed string }{
		{filters: "", want: "one/app:latest <none>"},
		{filters: "dangling=true", want: "<none>"},
		{filters: "dangling=0", want: "one/app:latest"},
		{filters: "dangling=x", failed: "invalid filter 'dangling=[x]'"},
		{filters: "label=l=1", want: "<none>"},
		{filters: "reference=one/*", want: "one/app:latest"},
		{filters: "reference=three"},
		{filters: "until=500"},
		{filters: "until=2000", want: "one/app:latest <none>"},
		{filters: "nope=1", failed: "invalid filter 'nope'"},
	} {
		match, err := (&Engine{}).imageFilter(context.Background(), filters(c.filters))
		if c.failed != "" {
			if err == nil || !strings.Contains(err.Error(), c.failed) {
				t.Errorf("%s: %v", c.filters, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.filters, err)
			continue
		}
		var got []string
		for _, img := range []*image.Image{tagged, dangling} {
			if tags, _, ok := match(img); ok {
				got = append(got, strings.Join(append(tags, "<none>")[:1], ""))
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q, want %q", c.filters, text, c.want)
		}
	}
}

func TestInfoCountsEachContainerOnce(t *testing.T) {
	var info system.Info
	var all []*own.View
	for _, s := range []own.Status{own.Running, own.Restarting, own.Paused, own.Exited, own.Created, own.Dead} {
		all = append(all, view("a", func(v *own.View) { v.Status = s }))
	}
	countContainers(&info, all)
	if info.Containers != 6 || info.ContainersRunning != 2 || info.ContainersPaused != 1 || info.ContainersStopped != 3 {
		t.Errorf("%d: %d running, %d paused, %d stopped", info.Containers, info.ContainersRunning, info.ContainersPaused, info.ContainersStopped)
	}
}

func TestSecurityOptionsSayWhatIsOn(t *testing.T) {
	remap, profile := new(idrange.Map), new(apparmor.Default)
	for want, d := range map[string]own.Defaults{
		"name=seccomp,profile=builtin name=cgroupns":                           {},
		"name=seccomp,profile=builtin name=userns name=cgroupns":               {Remap: remap},
		"name=apparmor name=seccomp,profile=builtin name=userns name=cgroupns": {Remap: remap, AppArmor: profile},
	} {
		if got := strings.Join(securityOptions(&d, &Live{Containers: &spec.HostDefaults{}}), " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	live := &Live{Containers: &spec.HostDefaults{CgroupnsMode: "host", NoNewPrivileges: true}, SeccompProfile: "/p.json"}
	if got := strings.Join(securityOptions(&own.Defaults{}, live), " "); got != "name=seccomp,profile=/p.json name=no-new-privileges" {
		t.Error(got)
	}
}

func TestEventFilters(t *testing.T) {
	m := &events.Message{Type: events.ImageEventType, Action: "tag", Scope: "local", Actor: events.Actor{ID: "sha256:1", Attributes: map[string]string{"name": "host:5000/a:1", "l": "x"}}}
	exec := &events.Message{Type: events.ContainerEventType, Action: "exec_start: sh -c x", Scope: "local", Actor: events.Actor{ID: "abc", Attributes: map[string]string{"name": "c"}}}
	for _, c := range []struct {
		filters     string
		image, exec bool
	}{
		{"", true, true}, {"type=image", true, false}, {"event=tag", true, false}, {"event=exec_start", false, true},
		{"image=host:5000/a", true, false}, {"image=host:5000/a:1", true, false}, {"image=host", false, false},
		{"container=ab", false, true}, {"container=c", false, true}, {"container=x", false, false}, {"label=l=x", true, false}, {"scope=swarm", false, false},
	} {
		f := filters(c.filters)
		if got := eventMatches(f, m); got != c.image {
			t.Errorf("%s: image %v", c.filters, got)
		}
		if got := eventMatches(f, exec); got != c.exec {
			t.Errorf("%s: exec %v", c.filters, got)
		}
	}
}
