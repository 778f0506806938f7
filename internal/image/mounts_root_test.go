//go:build root

package image_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
)

// TestMounts mounts an image at a place of ours and one of the user's, with each
// driver.
func TestMounts(t *testing.T) {
	for name, makeDriver := range drivers {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := openOn(t, root, makeDriver(t, root))
			s.load(t, imagetest.Reader(imagetest.Docker(simple())))
			dir := filepath.Join(root, "mounts")
			m := s.images.NewMounts(dir)
			t.Cleanup(func() {
				if err := image.UnmountAll(dir); err != nil {
					t.Error(err)
				}
			})
			theirs := filepath.Join(root, "theirs")
			if err := errors.Join(os.Mkdir(theirs, 0o755), os.Symlink("theirs", filepath.Join(root, "link"))); err != nil {
				t.Fatal(err)
			}
			ref := string(simple().ID())
			own, err := m.Add(ctx, ref, "")
			if err != nil || filepath.Dir(own.Path) != dir {
				t.Fatalf("%+v, %v", own, err)
			}
			at, err := m.Add(ctx, ref, filepath.Join(root, "link"))
			if err != nil || at.Path != theirs {
				t.Fatalf("%+v, %v", at, err)
			}
			if again, err := m.Add(ctx, ref, theirs); err != nil || again != at {
				t.Errorf("again: %+v, %v", again, err)
			}
			for _, p := range []string{own.Path, theirs} {
				if entries, err := os.ReadDir(p); err != nil || len(entries) == 0 {
					t.Errorf("%s: %v, %v", p, entries, err)
				}
				var fs syscall.Statfs_t
				const quiet = 1 | 2 | 4 // ST_RDONLY, ST_NOSUID, ST_NODEV
				if err := errors.Join(syscall.Statfs(p, &fs)); err != nil || fs.Flags&quiet != quiet {
					t.Errorf("%s: flags %#x, %v", p, fs.Flags, err)
				}
				if err := os.WriteFile(filepath.Join(p, "x"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
					t.Errorf("%s can be written: %v", p, err)
				}
			}
			// Another engine knows them by their records.
			next := s.images.NewMounts(dir)
			if list, err := next.List(ctx); err != nil || len(list) != 2 {
				t.Fatalf("%+v, %v", list, err)
			}
			open, err := os.Open(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := next.Remove(ctx, theirs, false); !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "--force") {
				t.Errorf("with an open file: %v", err)
			}
			open.Close()
			inUse := func(id image.ID) (users []image.User) {
				for _, p := range next.Of(id) {
					users = append(users, image.User{Mount: p})
				}
				return users
			}
			if _, err := s.images.Remove(ctx, ref, image.RemoveOptions{Force: true, InUse: inUse}); !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "is mounted at") {
				t.Errorf("removal: %v", err)
			}
			if err := syscall.Unmount(theirs, 0); err != nil { // by somebody else
				t.Fatal(err)
			}
			if list, err := next.List(ctx); err != nil || len(list) != 1 || list[0] != own {
				t.Errorf("%+v, %v", list, err)
			}
			if gone, err := next.Remove(ctx, ref, false); err != nil || len(gone) != 1 || gone[0] != own {
				t.Errorf("%+v, %v", gone, err)
			}
			if _, err := s.images.Remove(ctx, ref, image.RemoveOptions{Force: true, InUse: inUse}); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// TestBadMounts: what cannot be is refused and leaves nothing.
func TestBadMounts(t *testing.T) {
	root := t.TempDir()
	s := openSite(t, root)
	s.load(t, imagetest.Reader(imagetest.Docker(simple())))
	m := s.images.NewMounts(filepath.Join(root, "mounts"))
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := filepath.Join(root, "taken")
	if err := errors.Join(os.Mkdir(taken, 0o755), syscall.Mount(taken, taken, "", syscall.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(taken, syscall.MNT_DETACH) })
	ref := string(simple().ID())
	for name, tt := range map[string]struct {
		ref, target, want string
		kind              errdefs.Kind
	}{
		"no image":     {"nothing", "", "No such image", errdefs.NotFound},
		"relative":     {ref, "dir", "must be absolute", errdefs.InvalidArgument},
		"missing":      {ref, root + "/missing", "no such file", errdefs.InvalidArgument},
		"a mount":      {ref, taken, "something else is mounted", errdefs.Conflict},
		"no directory": {ref, file, "no directory", errdefs.InvalidArgument},
	} {
		if _, err := m.Add(ctx, tt.ref, tt.target); !errdefs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ref := range []string{ref, root, root + "/missing"} {
		if _, err := m.Remove(ctx, ref, false); !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("unmount %s: %v", ref, err)
		}
	}
	if list, err := m.List(ctx); err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}
