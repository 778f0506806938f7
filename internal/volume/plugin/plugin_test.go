package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/plugin"
	"github.com/tare-engine/tare/internal/store"
	"github.com/tare-engine/tare/internal/volume"
	"github.com/tare-engine/tare/internal/volume/local"
	fixture "github.com/tare-engine/tare/test/fixture/plugin"
)

// lab is a plugin called "nas" and an engine's volumes.
type lab struct {
	*testing.T
	plugin *fixture.Plugin
	finder *plugin.Finder
	dir    string
	*volume.Service
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	p, err := fixture.Start(filepath.Join(dir, "plugins", "nas.sock"), filepath.Join(dir, "files"), "global")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop() })
	l := &lab{T: t, plugin: p, finder: &plugin.Finder{Sockets: filepath.Join(dir, "plugins")}, dir: dir}
	l.boot()
	t.Cleanup(func() { l.Close() })
	return l
}

// boot starts the engine's volumes, anew if they run.
func (l *lab) boot() {
	l.Helper()
	if l.Service != nil {
		l.Close()
	}
	var err error
	l.Service, err = volume.Open(volume.Config{Dir: filepath.Join(l.dir, "data", "volumes"), Store: store.New(), Events: event.NewLog(), Drivers: []volume.Driver{local.Driver{}}, Plugins: New(l.finder), Private: []string{l.dir + "/run/tare"}})
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) make(name string, options map[string]string) {
	l.Helper()
	if _, made, err := l.Create(l.Context(), volume.Request{Name: name, Driver: "nas", Options: options}); err != nil || !made {
		l.Fatalf("%v, %v", made, err)
	}
}

func (l *lab) mount(name, user string) (string, error) {
	at, err := l.Mount(l.Context(), name, volume.Mounting{User: user, Destination: "/d"})
	if err != nil {
		return "", err
	}
	return at.Path, at.Close()
}

// users waits until these have a volume mounted, for the plugin.
func (l *lab) users(name string, want ...string) {
	l.Helper()
	var got []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got, _ = l.plugin.Users(name); slices.Equal(got, want) {
			return
		}
	}
	l.Fatalf("volume %s is mounted by %v, want %v", name, got, want)
}

func (l *lab) refused(err error, k errdefs.Kind, text string) {
	l.Helper()
	if !errdefs.Is(err, k) || !strings.Contains(err.Error(), text) {
		l.Errorf("%v, want %q", err, text)
	}
}

func TestAVolumeOfAPlugin(t *testing.T) {
	l := newLab(t)
	l.make("vv", map[string]string{"a": "b"})
	v, err := l.Inspect(t.Context(), "vv")
	if err != nil || v.Driver != "nas" || v.Scope != "global" || v.Status["users"] != 0.0 || v.Mountpoint != "" || v.Created.Year() != 2001 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, made, err := l.Create(t.Context(), volume.Request{Name: "vv"}); err != nil || made {
		t.Errorf("%v, %v", made, err)
	}
	_, _, err = l.Create(t.Context(), volume.Request{Name: "vv", Driver: "local"})
	l.refused(err, errdefs.Conflict, "create vv: driver 'nas' already has volume 'vv': conflict: volume name must be unique")
	for range 2 { // once, as often as a container has it
		if path, err := l.mount("vv", "c1"); err != nil || path != filepath.Join(l.dir, "files", "vv") {
			t.Errorf("%q, %v", path, err)
		}
	}
	_, err = l.mount("vv", "c2")
	l.users("vv", "c1", "c2")
	if v, e := l.Get("vv"); err != nil || e != nil || v.Mountpoint != filepath.Join(l.dir, "files", "vv") || l.Path("vv") != v.Mountpoint {
		t.Errorf("%+v, %v, %v", v, err, e)
	}
	if err := errors.Join(l.Unmount("vv", "c1"), l.Unmount("vv", "c1")); err != nil {
		t.Error(err)
	}
	l.users("vv", "c2")
	if err := l.Unmount("vv", "c2"); err != nil {
		t.Error(err)
	}
	l.users("vv")
	if err := l.Remove("vv"); err != nil {
		t.Error(err)
	}
	if _, there := l.plugin.Users("vv"); there {
		t.Error("the plugin still has it")
	}
	l.refused(l.Remove("vv"), errdefs.NotFound, "get vv: no such volume")
}

func TestPluginsThatAreNotThere(t *testing.T) {
	l := newLab(t)
	for name, text := range map[string]string{
		"nope": `create vv: error looking up volume plugin nope: plugin "nope" not found`, "../nas": `plugin "../nas" not found`, "a/b:latest": `plugin "a/b:latest" not found`,
	} {
		_, _, err := l.Create(t.Context(), volume.Request{Name: "vv", Driver: name})
		l.refused(err, errdefs.NotFound, text)
	}
}

// What only the plugin knows is listed, found, used and removed, and stays if a container
// that was to have it does not come to be.
func TestVolumesThatOnlyThePluginKnows(t *testing.T) {
	l := newLab(t)
	l.plugin.Add("theirs", nil)
	l.plugin.Add("../evil", nil)
	list, warnings := l.ListAll(t.Context())
	if len(list) != 1 || list[0].Name != "theirs" || list[0].Driver != "nas" || list[0].Scope != "global" || len(warnings) > 0 {
		t.Errorf("%+v, %q", list, warnings)
	}
	if v, err := l.Inspect(t.Context(), "theirs"); err != nil || v.Driver != "nas" {
		t.Errorf("%+v, %v", v, err)
	}
	v, made, err := l.Create(t.Context(), volume.Request{Name: "theirs", User: "c1"})
	if err != nil || made || v.Driver != "nas" {
		t.Errorf("%+v, %v, %v", v, made, err)
	}
	l.boot() // the container did not come to be
	l.Settle(func(string) bool { return false })
	l.boot()
	if _, err := l.Get("theirs"); err != nil {
		t.Error(err)
	}
	if err := l.Remove("theirs"); err != nil {
		t.Error(err)
	}
	l.plugin.Add("more", nil)
	if err := l.Remove("more"); err != nil {
		t.Error(err)
	}
	if _, there := l.plugin.Users("more"); there {
		t.Error("the plugin still has it")
	}
}

// An engine that was killed tells the plugin of the ends that came meanwhile, and of no
// other.
func TestEndsAfterAKill(t *testing.T) {
	l := newLab(t)
	l.make("vv", nil)
	for _, user := range []string{"runs", "ended"} {
		if _, err := l.mount("vv", user); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.plugin.Stop(); err != nil { // it starts after the engine
		t.Fatal(err)
	}
	l.boot()
	l.Adopt("vv", "runs")
	l.Settle(func(string) bool { return true })
	if v, err := l.Get("vv"); err != nil || v.Mountpoint != filepath.Join(l.dir, "files", "vv") {
		t.Errorf("%+v, %v", v, err)
	}
	if err := l.plugin.Again(); err != nil {
		t.Fatal(err)
	}
	l.users("vv", "runs")
	if err := l.Unmount("vv", "runs"); err != nil {
		t.Error(err)
	}
	l.users("vv")
}

func TestErrorsOfPlugins(t *testing.T) {
	l := newLab(t)
	_, _, err := l.Create(t.Context(), volume.Request{Name: "vv", Driver: "nas", Options: map[string]string{"fail": "Create"}})
	l.refused(err, errdefs.Internal, "create vv: VolumeDriver.Create: it is told to fail")
	_, _, err = l.Create(t.Context(), volume.Request{Name: "vv", Driver: "nas", Options: map[string]string{"refuse": "Create"}})
	l.refused(err, errdefs.Internal, "create vv: it is told to refuse")
	if _, err := l.Get("vv"); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
	l.make("mm", map[string]string{"fail": "Mount"})
	_, err = l.mount("mm", "c1")
	l.refused(err, errdefs.Internal, "error while mounting volume '': VolumeDriver.Mount: it is told to fail")
	l.make("rr", map[string]string{"fail": "Remove"})
	l.refused(l.Remove("rr"), errdefs.Internal, "remove rr: VolumeDriver.Remove: it is told to fail")
	if err := l.Forget("rr"); err != nil {
		t.Error(err)
	}
	if _, err := l.Get("rr"); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
	l.make("gg", map[string]string{"flood": "Get"})
	_, err = l.Inspect(t.Context(), "gg")
	l.refused(err, errdefs.Unavailable, "its answer has more than 8388608 bytes")
	_, err = l.Rename("mm", "nn")
	l.refused(err, errdefs.InvalidArgument, "the plugin nas knows the volume by its name")
	_, err = l.Clone(t.Context(), "mm", "nn")
	l.refused(err, errdefs.InvalidArgument, "the plugin nas has them")
}

// What has been checked is what containers get, wherever the path leads a moment later.
func TestAPathThatIsReplaced(t *testing.T) {
	l := newLab(t)
	checked, place, own := filepath.Join(l.dir, "checked"), filepath.Join(l.dir, "place"), filepath.Join(l.dir, "data")
	if err := errors.Join(os.Mkdir(checked, 0o700), os.WriteFile(checked+"/f", nil, 0o600), os.Symlink(checked, place)); err != nil {
		t.Fatal(err)
	}
	l.make("vv", map[string]string{"path": place})
	for range 2 { // the second time the plugin is not asked
		at, err := l.Mount(t.Context(), "vv", volume.Mounting{User: "c1", Destination: "/d"})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(place), os.Symlink(own, place)); err != nil {
			t.Fatal(err)
		}
		dir, err := at.Open()
		if err != nil || at.Dir == nil || at.Path != place {
			t.Fatalf("%+v, %v", at, err)
		}
		if names, err := dir.Readdirnames(-1); err != nil || !slices.Equal(names, []string{"f"}) {
			t.Errorf("%v, %v", names, err)
		}
		if err := errors.Join(dir.Close(), at.Close()); err != nil {
			t.Error(err)
		}
		if _, err := l.Mount(t.Context(), "vv", volume.Mounting{User: "c1", Destination: "/e"}); err == nil || !strings.Contains(err.Error(), "the engine's own files") {
			t.Errorf("the place leads to the engine's files: %v", err)
		}
		if err := errors.Join(os.Remove(place), os.Symlink(checked, place)); err != nil {
			t.Fatal(err)
		}
	}
}

// A plugin does not get the engine's files, or the host's, into a container.
func TestPathsOfPlugins(t *testing.T) {
	l := newLab(t)
	file, link := filepath.Join(l.dir, "file"), filepath.Join(l.dir, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(filepath.Join(l.dir, "data"), link), os.MkdirAll(l.dir+"/run/tare/keeper", 0o700)); err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{"relative", "/", "/proc/self", "/sys", "/dev", l.dir, filepath.Join(l.dir, "data"), filepath.Join(l.dir, "data/volumes"), l.dir + "/run", l.dir + "/run/tare", l.dir + "/run/tare/keeper", link, file, "/nope", "/proc/../", "/\x00"} {
		name := "vol" + string(rune('a'+i))
		l.make(name, map[string]string{"path": path})
		got, err := l.mount(name, "c1")
		l.refused(err, errdefs.Internal, "the plugin says that the files are at")
		if got != "" {
			t.Errorf("%s was given out", got)
		}
		l.users(name)
	}
}

// A plugin that hangs holds up who waits for it, and nobody else; what it is to be told it
// is told when it is back.
func TestAPluginThatHangs(t *testing.T) {
	l := newLab(t)
	l.make("slow", map[string]string{"hang": "Mount"})
	l.make("good", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := l.Mount(ctx, "slow", volume.Mounting{User: "c1"})
	l.refused(err, errdefs.Unavailable, "plugin nas: VolumeDriver.Mount")
	l.users("slow")
	if _, err := l.mount("good", "c1"); err != nil {
		t.Error(err)
	}
	if err := l.plugin.Crash(); err != nil {
		t.Fatal(err)
	}
	l.finder = &plugin.Finder{Sockets: filepath.Join(l.dir, "plugins")}
	l.boot()
	l.Settle(func(string) bool { return true })
	list, warnings := l.ListAll(t.Context())
	if len(list) != 2 || len(warnings) != 1 || !strings.Contains(warnings[0], "plugin nas") {
		t.Errorf("%d volumes, %q", len(list), warnings)
	}
	if err := l.plugin.Again(); err != nil {
		t.Fatal(err)
	}
	l.users("good")
}

// A removal that was cut off after the plugin had done it is finished by the next one.
func TestARemovalThatWasCutOff(t *testing.T) {
	l := newLab(t)
	l.make("vv", nil)
	if err := os.WriteFile(filepath.Join(l.dir, "data/volumes/vv/removing"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := New(l.finder).Find(t.Context(), "nas")
	if err != nil || p.Remove(t.Context(), "vv") != nil {
		t.Fatal(err)
	}
	if err := l.Remove("vv"); err != nil {
		t.Error(err)
	}
}
