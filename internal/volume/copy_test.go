package volume

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
)

// withFile makes a volume with a file "f".
func withFile(t *testing.T, s *Service, name, text string) *View {
	t.Helper()
	v := make1(t, s, Request{Name: name, Labels: map[string]string{"a": "b"}})
	write(t, v, text)
	return v
}

func write(t *testing.T, v *View, text string) {
	t.Helper()
	if err := os.WriteFile(v.Mountpoint+"/f", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func fileOf(t *testing.T, s *Service, name string) string {
	t.Helper()
	b, err := os.ReadFile(s.Path(name) + "/f")
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// refused wants an error of a kind.
func refused(t *testing.T, err error, k errdefs.Kind, text string) {
	t.Helper()
	if !errdefs.Is(err, k) || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want %q", err, text)
	}
}

func TestClone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	withFile(t, s, "aa", "text")
	v, err := s.Clone(t.Context(), "aa", "bb")
	if err != nil || v.Name != "bb" || v.Labels["a"] != "b" || fileOf(t, s, "bb") != "text" {
		t.Errorf("%+v, %v", v, err)
	}
	write(t, v, "other")
	if got := fileOf(t, s, "aa"); got != "text" {
		t.Errorf("the source has %q", got)
	}
	anonymous := make1(t, s, Request{})
	if v, err := s.Clone(t.Context(), anonymous.Name, "named"); err != nil || v.Anonymous() {
		t.Errorf("%+v, %v", v, err)
	}
	make1(t, s, Request{Name: "mm", Options: map[string]string{"mounts": "1"}})
	_, err = s.Clone(t.Context(), "aa", "bb")
	refused(t, err, errdefs.Conflict, "there is a volume bb already")
	_, err = s.Clone(t.Context(), "none", "cc")
	refused(t, err, errdefs.NotFound, "get none: no such volume")
	_, err = s.Clone(t.Context(), "aa", "../c")
	refused(t, err, errdefs.InvalidArgument, "invalid characters")
	_, err = s.Clone(t.Context(), "mm", "cc")
	refused(t, err, errdefs.InvalidArgument, "not the engine's")
	if err := mountFor(t, s, "aa", "c1"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Clone(t.Context(), "aa", "cc")
	refused(t, err, errdefs.Conflict, "volume aa is in use by what runs: stop it first - [c1]")
	if got, want := names(s), names(open(t, dir, newFake())); got != want || strings.Contains(got, " cc ") {
		t.Errorf("in memory %s, on disk %s", got, want)
	}
}

func TestRename(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	withFile(t, s, "aa", "text")
	make1(t, s, Request{Name: "taken"})
	if _, err := s.Acquire("aa", "c1"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Rename("aa", "bb")
	refused(t, err, errdefs.Conflict, "rename aa: volume is in use - [c1]")
	s.Release("aa", "c1")
	for from, to := range map[string]string{"aa": "taken", "taken": "taken"} {
		_, err = s.Rename(from, to)
		refused(t, err, errdefs.Conflict, "there is a volume taken already")
	}
	_, err = s.Rename("none", "bb")
	refused(t, err, errdefs.NotFound, "get none: no such volume")
	if v, err := s.Rename("aa", "bb"); err != nil || v.Name != "bb" || v.Mountpoint != s.Path("bb") || fileOf(t, s, "bb") != "text" {
		t.Errorf("%+v, %v", v, err)
	}
	make1(t, s, Request{Name: "aa"})
	// A kill before the record has the new name leaves the new name.
	if err := os.Rename(dir+"/taken", dir+"/later"); err != nil {
		t.Fatal(err)
	}
	next := open(t, dir, newFake())
	if got := names(next); got != "aa bb later" || next.List()[2].Mountpoint != dir+"/later/_data" {
		t.Error(got)
	}
}

func TestSnapshotAndRollback(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	v := withFile(t, s, "vv", "one")
	for _, name := range []string{"first", ""} {
		if taken, err := s.TakeSnapshot(t.Context(), "vv", name); err != nil || name != "" && taken.Name != name {
			t.Fatalf("%+v, %v", taken, err)
		}
	}
	_, err := s.TakeSnapshot(t.Context(), "vv", "first")
	refused(t, err, errdefs.Conflict, "volume vv has a snapshot first already")
	_, err = s.TakeSnapshot(t.Context(), "vv", "../x")
	refused(t, err, errdefs.InvalidArgument, "cannot be the name of a snapshot")
	_, err = s.TakeSnapshot(t.Context(), "none", "x1")
	refused(t, err, errdefs.NotFound, "no such volume")
	write(t, v, "two")
	if err := s.Rollback(t.Context(), "vv", "first"); err != nil || fileOf(t, s, "vv") != "one" {
		t.Error(err)
	}
	write(t, v, "three") // the snapshot is none the worse
	if err := s.Rollback(t.Context(), "vv", "first"); err != nil || fileOf(t, s, "vv") != "one" {
		t.Error(err)
	}
	refused(t, s.Rollback(t.Context(), "vv", "none"), errdefs.NotFound, "volume vv has no snapshot none")
	refused(t, s.Rollback(t.Context(), "vv", "../_data"), errdefs.InvalidArgument, "cannot be the name of a snapshot")
	if err := mountFor(t, s, "vv", "c1"); err != nil {
		t.Fatal(err)
	}
	refused(t, s.Rollback(t.Context(), "vv", "first"), errdefs.Conflict, "in use by what runs")
	_, err = s.TakeSnapshot(t.Context(), "vv", "running")
	refused(t, err, errdefs.Conflict, "in use by what runs")

	// What is cut off is swept away.
	if err := errors.Join(os.Mkdir(dir+"/vv/snapshots/.new-x", 0o700), os.Mkdir(dir+"/vv/snapshots/.gone-x", 0o700)); err != nil {
		t.Fatal(err)
	}
	next := open(t, dir, newFake())
	if list, err := next.Snapshots("vv"); err != nil || len(list) != 2 || list[0].Name != "first" || list[0].Created.After(list[1].Created) {
		t.Errorf("%+v, %v", list, err)
	}
	again, err := next.Get("vv")
	if err != nil {
		t.Fatal(err)
	}
	if size, err := next.SnapshotsSize(again); err != nil || size != 6 {
		t.Errorf("%d, %v", size, err)
	}
	if err := next.RemoveSnapshot("vv", "first"); err != nil {
		t.Error(err)
	}
	refused(t, next.RemoveSnapshot("vv", "first"), errdefs.NotFound, "has no snapshot first")
	if list, err := os.ReadDir(dir + "/vv/snapshots"); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if err := next.Remove("vv"); err != nil {
		t.Error(err)
	}
}

// A tree whose directories could not be open all at once is refused, with nothing left.
func TestCloneRefusesDeepTrees(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	v := make1(t, s, Request{Name: "aa"})
	deep := v.Mountpoint
	for range 11 { // 1100, in paths that are short enough
		deep += strings.Repeat("/d", 100)
		if err := os.MkdirAll(deep, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Clone(t.Context(), "aa", "bb")
	refused(t, err, errdefs.InvalidArgument, "more than 1024 directories deep")
	if got := names(s); strings.Contains(got, "bb") {
		t.Errorf("%s", got)
	}
	if err := s.Remove("aa"); err != nil {
		t.Error(err)
	}
}
