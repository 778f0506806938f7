package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/store"
)

// fake is a driver that counts what is mounted. A volume with the option "mounts" has
// to be mounted.
type fake struct {
	mounted map[string]int
	broken  error
}

func (*fake) Name() string { return "fake" }

func (*fake) Check(o map[string]string) error {
	if _, bad := o["bad"]; bad {
		return errdefs.New(errdefs.InvalidArgument, `invalid option: "bad"`)
	}
	return nil
}

func (f *fake) Make(context.Context, string, map[string]string) error { return f.broken }
func (*fake) Mounts(_ string, o map[string]string) bool               { return o["mounts"] != "" }

func (f *fake) Content(_ string, o map[string]string) (string, error) {
	if f.Mounts("", o) {
		return "", nil
	}
	return Files, nil
}

func (f *fake) Mount(_ context.Context, _, at string, _ map[string]string) error {
	f.mounted[at]++
	return f.broken
}

func (f *fake) Unmount(at string) error {
	f.mounted[at] = 0
	return nil
}

func open(t *testing.T, dir string, f *fake) *Service {
	t.Helper()
	s, err := Open(Config{Dir: dir, Store: store.New(), Events: event.NewLog(), Drivers: []Driver{f}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newFake() *fake { return &fake{mounted: map[string]int{}} }

func make1(t *testing.T, s *Service, r Request) *View {
	t.Helper()
	v, _, err := s.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func names(s *Service) string {
	var list []string
	for _, v := range s.List() {
		list = append(list, v.Name)
	}
	return strings.Join(list, " ")
}

func TestVolumesAreThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	made := make1(t, s, Request{Name: "db", Labels: map[string]string{"a": "b"}, Options: map[string]string{"o": "1"}})
	if again, isNew, err := s.Create(t.Context(), Request{Name: "db", Options: map[string]string{"o": "2"}}); err != nil || isNew || again != made {
		t.Errorf("made again: %+v, %v, %v", again, isNew, err)
	}
	anonymous := make1(t, s, Request{})
	if len(anonymous.Name) != 64 || !anonymous.Anonymous() || made.Anonymous() {
		t.Errorf("%+v", anonymous)
	}
	for _, left := range []string{".new-1", ".gone-1"} {
		if err := os.MkdirAll(filepath.Join(dir, left, "_data/x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	next := open(t, dir, newFake())
	v, err := next.Get("db")
	if err != nil || v.Labels["a"] != "b" || v.Options["o"] != "1" || !v.Created.Equal(made.Created) || v.Mountpoint != filepath.Join(dir, "db/_data") {
		t.Errorf("%+v, %v", v, err)
	}
	next.Close()
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestADamagedRecordIsSetAside(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	for _, name := range []string{"aa", "bb", "cc"} {
		make1(t, s, Request{Name: name})
	}
	if err := errors.Join(os.WriteFile(dir+"/aa/record.json", []byte("{"), 0o600), os.WriteFile(dir+"/aa/_data/f", nil, 0o600),
		os.WriteFile(dir+"/bb/record.json", []byte(`{"Version":99,"Name":"bb"}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	next := open(t, dir, newFake())
	if got := names(next); got != "cc" {
		t.Errorf("%s", got)
	}
	if kept, err := filepath.Glob(dir + "/.damaged-aa-*/_data/f"); err != nil || len(kept) != 1 {
		t.Errorf("%v, %v", kept, err)
	}
	make1(t, next, Request{Name: "aa"})
}

func TestCreateRefuses(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	make1(t, s, Request{Name: "taken"})
	s.cfg.Drivers = append(s.cfg.Drivers, renamed{newFake()})
	for _, c := range []struct {
		r    Request
		kind errdefs.Kind
		want string
	}{
		{Request{Name: "x"}, errdefs.InvalidArgument, "create x: volume name is too short"},
		{Request{Name: "../x"}, errdefs.InvalidArgument, `create ../x: "../x" includes invalid characters`},
		{Request{Name: ".x"}, errdefs.InvalidArgument, "invalid characters"},
		{Request{Name: strings.Repeat("x", 241)}, errdefs.InvalidArgument, "longer than 240"},
		{Request{Name: "xx", Driver: "nope"}, errdefs.NotFound, `create xx: error looking up volume plugin nope: plugin "nope" not found`},
		{Request{Name: "taken", Driver: "other"}, errdefs.Conflict, "create taken: driver 'fake' already has volume 'taken': conflict: volume name must be unique"},
		{Request{Name: "xx", Options: map[string]string{"bad": ""}}, errdefs.InvalidArgument, `create xx: invalid option: "bad"`},
	} {
		_, _, err := s.Create(t.Context(), c.r)
		if !errdefs.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.r, err)
		}
	}
	if got := names(s); got != "taken" {
		t.Error(got)
	}
}

type renamed struct{ *fake }

func (renamed) Name() string { return "other" }

func TestNothingIsLeftOfAVolumeThatCannotBeMade(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	s := open(t, dir, f)
	f.broken = errors.New("no")
	if _, _, err := s.Create(t.Context(), Request{Name: "xx"}); err == nil || err.Error() != "create xx: no" {
		t.Error(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	f.broken = nil
	make1(t, s, Request{Name: "xx"})
}

func TestOneWinsOfManyCreatesAndRemovals(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	var all sync.WaitGroup
	var mu sync.Mutex
	made, removed := 0, 0
	for range 50 {
		all.Go(func() {
			_, isNew, err := s.Create(t.Context(), Request{Name: "one"})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if isNew {
				made++
			}
		})
	}
	all.Wait()
	for range 50 {
		all.Go(func() {
			err := s.Remove("one")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				removed++
			} else if !errdefs.Is(err, errdefs.NotFound) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made != 1 || removed != 1 {
		t.Errorf("made %d times, removed %d times", made, removed)
	}
}

// Between creates and removals of a name nobody gets a volume that is going.
func TestCreateAndRemoveAtOnce(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			user := string(rune('a' + i))
			for range 30 {
				v, _, err := s.Create(t.Context(), Request{Name: "busy", User: user})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(v.Mountpoint); err != nil {
					t.Error(err)
				}
				s.Release("busy", user)
				if err := s.Remove("busy"); err != nil && !errdefs.Is(err, errdefs.Conflict) && !errdefs.Is(err, errdefs.NotFound) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestInUseIsAConflict(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	make1(t, s, Request{Name: "vv", User: "c1"})
	for _, user := range []string{"c2", "c2"} {
		if _, err := s.Acquire("vv", user); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"c1, c2", "c2", "c2"} {
		err := s.Remove("vv")
		if !errdefs.Is(err, errdefs.Conflict) || err.Error() != "remove vv: volume is in use - ["+want+"]" {
			t.Errorf("%v, want %s", err, want)
		}
		first := s.List()[0].Users[0]
		s.Release("vv", first)
	}
	s.Release("vv", "stranger")
	if err := s.Remove("vv"); err != nil {
		t.Error(err)
	}
	if err := s.Remove("vv"); !errdefs.Is(err, errdefs.NotFound) || err.Error() != "get vv: no such volume" {
		t.Error(err)
	}
	if _, err := s.Acquire("vv", "c"); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}

func TestMountedFromTheFirstToTheLast(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	s := open(t, dir, f)
	v := make1(t, s, Request{Name: "vv", Options: map[string]string{"mounts": "1"}})
	steps := []struct {
		do   func() error
		want int
	}{
		{func() error { return mountFor(t, s, "vv", "a") }, 1},
		{func() error { return mountFor(t, s, "vv", "a") }, 1},
		{func() error { return mountFor(t, s, "vv", "b") }, 1},
		{func() error { return s.Unmount("vv", "a") }, 1},
		{func() error { return s.Unmount("vv", "a") }, 1},
		{func() error { return s.Unmount("vv", "stranger") }, 1},
		{func() error { return s.Unmount("vv", "b") }, 0},
		{func() error { return mountFor(t, s, "vv", "c") }, 1},
	}
	for i, step := range steps {
		if err := step.do(); err != nil || f.mounted[v.Mountpoint] != step.want {
			t.Errorf("step %d: mounted %d times, want %d: %v", i, f.mounted[v.Mountpoint], step.want, err)
		}
	}
	// The next engine is told who runs, and unmounts what nobody has.
	next := open(t, dir, f)
	next.Adopt("vv", "c")
	next.Settle(func(string) bool { return true })
	if f.mounted[v.Mountpoint] != 1 {
		t.Error("unmounted although a container has it")
	}
	if err := next.Unmount("vv", "c"); err != nil || f.mounted[v.Mountpoint] != 0 {
		t.Error(err)
	}
	f.mounted[v.Mountpoint] = 1
	open(t, dir, f).Settle(func(string) bool { return true })
	if f.mounted[v.Mountpoint] != 0 {
		t.Error("left mounted although nobody has it")
	}
}

func mountFor(t *testing.T, s *Service, name, user string) error {
	t.Helper()
	_, err := s.Mount(t.Context(), name, Mounting{User: user, Destination: "/d"})
	return err
}

func TestAMountThatFailsLeavesTheVolumeUnused(t *testing.T) {
	f := newFake()
	s := open(t, t.TempDir(), f)
	v := make1(t, s, Request{Name: "vv", Options: map[string]string{"mounts": "1"}})
	f.broken = errors.New("no such device")
	if err := mountFor(t, s, "vv", "a"); err == nil || err.Error() != "error while mounting volume '"+v.Mountpoint+"': no such device" {
		t.Error(err)
	}
	f.broken = nil
	if err := mountFor(t, s, "vv", "a"); err != nil {
		t.Error(err)
	}
}

func TestAVolumeThatIsDeletedByHandCannotBeMounted(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	v := make1(t, s, Request{Name: "vv"})
	if err := os.RemoveAll(filepath.Dir(v.Mountpoint)); err != nil {
		t.Fatal(err)
	}
	err := mountFor(t, s, "vv", "a")
	if err == nil || !strings.HasPrefix(err.Error(), "error evaluating symlinks from mount source") {
		t.Error(err)
	}
	if err := s.Remove("vv"); err != nil {
		t.Error(err)
	}
}

func TestVolumesGoWithTheContainerThatHasNotComeToBe(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	for _, name := range []string{"kept", "tied", "shared", "going"} {
		make1(t, s, Request{Name: name, User: "c1"})
	}
	if err := errors.Join(s.Keep("kept"), s.Keep("kept"), s.Keep("going"), s.Tie("going", "c1"), s.Keep("none"), s.Tie("none", "c1")); err != nil {
		t.Fatal(err)
	}
	next := open(t, dir, newFake())
	next.Settle(func(id string) bool { return id == "c1" })
	if got := names(next); got != "going kept shared tied" {
		t.Errorf("with the container: %s", got)
	}
	next = open(t, dir, newFake())
	if _, err := next.Acquire("shared", "c2"); err != nil {
		t.Fatal(err)
	}
	next.Settle(func(id string) bool { return id == "c2" })
	if got := names(next); got != "kept shared" {
		t.Errorf("without the container: %s", got)
	}
	// What another has is kept for good.
	last := open(t, dir, newFake())
	last.Settle(func(string) bool { return false })
	if got := names(last); got != "kept shared" {
		t.Errorf("later: %s", got)
	}
}

// A container that is removed right after its creation takes its volumes along, though
// what its creation had still to do comes after that.
func TestVolumesGoWithTheContainerThatGoesAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	for _, name := range []string{"came", "going", "again"} {
		make1(t, s, Request{Name: name, User: "c1"})
	}
	err := errors.Join(s.Tie("going", "c1"), s.Tie("again", "c1"), s.Come("going"), s.Come("came"), s.Come("none"), s.Keep("again"))
	if err != nil {
		t.Fatal(err)
	}
	next := open(t, dir, newFake())
	next.Settle(func(string) bool { return false })
	if got := names(next); got != "again came" {
		t.Errorf("without the container: %s", got)
	}
}

func TestEventsTellWhatHappens(t *testing.T) {
	log := event.NewLog()
	s, err := Open(Config{Dir: t.TempDir(), Store: store.New(), Events: log, Drivers: []Driver{newFake()}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Second)
	make1(t, s, Request{Name: "vv"})
	make1(t, s, Request{Name: "vv"})
	if _, err := s.Mount(t.Context(), "vv", Mounting{User: "c", Destination: "/d", ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Unmount("vv", "c"), s.Remove("vv")); err != nil {
		t.Fatal(err)
	}
	var got []string
	err = log.Follow(t.Context(), began, time.Now(), nil, func(m events.Message) error {
		a := m.Actor.Attributes
		got = append(got, strings.Join([]string{string(m.Action), m.Actor.ID, a["driver"], a["container"], a["destination"], a["read/write"]}, " "))
		return nil
	})
	want := []string{"create vv fake   ", "mount vv fake c /d false", "unmount vv fake c  ", "destroy vv fake   "}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSizeCountsAFileWithTwoNamesOnce(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	v := make1(t, s, Request{Name: "vv"})
	if err := errors.Join(os.MkdirAll(v.Mountpoint+"/a/b", 0o700), os.WriteFile(v.Mountpoint+"/a/f", make([]byte, 1000), 0o600),
		os.Link(v.Mountpoint+"/a/f", v.Mountpoint+"/a/b/g"), os.Symlink("/", v.Mountpoint+"/a/l"), os.WriteFile(v.Mountpoint+"/h", make([]byte, 24), 0o600)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if size, _, err := s.Size(t.Context(), v); err != nil || size != 1000+24+1 { // the link is one byte
				t.Errorf("%d, %v", size, err)
			}
		})
	}
	all.Wait()
	mounted := make1(t, s, Request{Name: "mm", Options: map[string]string{"mounts": "1"}})
	if size, _, err := s.Size(t.Context(), mounted); err != nil || size != Unknown {
		t.Errorf("%d, %v", size, err)
	}
}
