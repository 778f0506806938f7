//go:build root

package mnt

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/linux/dirat"
)

// as runs a shell command as a user, in the union.
func (r *rig) as(uid uint32, script string) error {
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = r.mnt
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.New(err.Error() + ": " + string(out))
	}
	return nil
}

func stat(t testing.TB, p string) (st syscall.Stat_t) {
	t.Helper()
	must(t, syscall.Lstat(p, &st))
	return st
}

// TestCopyUpKeepsEverything: what is copied up looks as before, but for what was
// changed; so do its directories.
func TestCopyUpKeepsEverything(t *testing.T) {
	dir := tempDir(t)
	base := filepath.Join(dir, "base")
	must(t, os.MkdirAll(base+"/d/e", 0o755))
	must(t, os.WriteFile(base+"/d/e/f", make([]byte, 8<<20), 0o644))
	must(t, os.Truncate(base+"/d/e/f", 0))
	must(t, os.Truncate(base+"/d/e/f", 64<<20))
	f, err := os.OpenFile(base+"/d/e/f", os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("data"), 32<<20)
	must(t, err)
	must(t, f.Close())
	must(t, os.Symlink("f", base+"/d/e/l"))
	must(t, os.Lchown(base+"/d/e/l", 7, 8))
	for _, p := range []string{"/d/e/f", "/d/e", "/d"} {
		must(t, os.Chown(base+p, 11, 12))
		must(t, syscall.Setxattr(base+p, "trusted.t", []byte("of root"), 0))
		must(t, syscall.Setxattr(base+p, "trusted.u", bytes.Repeat([]byte("u"), 600), 0))
	}
	must(t, os.Chmod(base+"/d/e", 0o751|os.ModeSetgid))
	// user:9:rw with mask rwx
	acl := []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x06\x00\x09\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff")
	must(t, syscall.Setxattr(base+"/d/e/f", "system.posix_acl_access", acl, 0))
	capability := []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	must(t, syscall.Setxattr(base+"/d/e/f", "security.capability", capability, 0))
	old := time.Unix(1000000000, 123456789)
	for _, p := range []string{"/d/e/f", "/d/e", "/d"} {
		must(t, os.Chtimes(base+p, old, old))
	}
	r := mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	before := stat(t, r.path("d/e/f"))
	must(t, os.Rename(r.path("d/e/f"), r.path("d/e/g"))) // copies up
	must(t, os.Lchown(r.path("d/e/l"), 7, 9))

	st := stat(t, r.path("d/e/g"))
	if st.Uid != 11 || st.Gid != 12 || st.Mode != before.Mode || st.Size != 64<<20 || st.Mtim != syscall.NsecToTimespec(old.UnixNano()) {
		t.Errorf("%+v", st)
	}
	if st.Ino != before.Ino {
		t.Errorf("inode number %d became %d", before.Ino, st.Ino)
	}
	if st.Blocks > 1000 {
		t.Errorf("%d blocks: holes were filled", st.Blocks)
	}
	for name, want := range map[string][]byte{"trusted.t": []byte("of root"), "trusted.u": bytes.Repeat([]byte("u"), 600),
		"system.posix_acl_access": acl, "security.capability": capability} {
		got := make([]byte, 1000)
		n, err := syscall.Getxattr(r.path("d/e/g"), name, got)
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("%s: %q (%v)", name, got[:max(n, 0)], err)
		}
	}
	if st := stat(t, filepath.Join(dir, "rw/d/e")); st.Mode&0o7777 != 0o2751 || st.Uid != 11 {
		t.Errorf("directory: %+v", st)
	}
	if st := stat(t, filepath.Join(dir, "rw/d")); st.Mtim != syscall.NsecToTimespec(old.UnixNano()) {
		t.Errorf("directory: %+v", st)
	}
	if st := stat(t, r.path("d/e/l")); st.Uid != 7 || st.Gid != 9 || st.Mode&syscall.S_IFMT != syscall.S_IFLNK {
		t.Errorf("link: %+v", st)
	}
	if err := r.as(9, "cat d/e/g >/dev/null && echo x >d/e/g"); err != nil {
		t.Errorf("whom the access control list names: %v", err)
	}
	if err := r.as(10, "echo x >d/e/g"); err == nil {
		t.Error("somebody else can write")
	}
}

// TestOwnersOfNewFiles: things are their maker's, with the mask, the group of a
// directory that says so, and its default access control list.
func TestOwnersOfNewFiles(t *testing.T) {
	dir := tempDir(t)
	must(t, os.MkdirAll(filepath.Join(dir, "base/shared"), 0o755))
	must(t, os.Chown(filepath.Join(dir, "base/shared"), 0, 50))
	must(t, os.Chmod(filepath.Join(dir, "base/shared"), 0o777|os.ModeSetgid))
	must(t, os.MkdirAll(filepath.Join(dir, "base/acl"), 0o777))
	must(t, os.MkdirAll(filepath.Join(dir, "base/open"), 0o777))
	// default: user::rwx group::rwx other::---
	acl := []byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x07\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff")
	must(t, syscall.Setxattr(filepath.Join(dir, "base/acl"), "system.posix_acl_default", acl, 0))
	r := mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	must(t, r.as(1000, "umask 027; for d in open shared acl; do echo x >$d/f; mkdir $d/d; ln -s to $d/l; mkfifo $d/p; done"))
	for p, want := range map[string][3]uint32{
		"open/f": {0o100640, 1000, 1000}, "open/d": {0o040750, 1000, 1000}, "open/l": {0o120777, 1000, 1000}, "open/p": {0o010640, 1000, 1000},
		"shared/f": {0o100640, 1000, 50}, "shared/d": {0o042750, 1000, 50},
		"acl/f": {0o100660, 1000, 1000}, "acl/d": {0o040770, 1000, 1000},
	} {
		st := stat(t, r.path(p))
		if got := [3]uint32{st.Mode, st.Uid, st.Gid}; got != want {
			t.Errorf("%s: %o, want %o", p, got, want)
		}
	}
	if err := r.as(1001, "cat open/f"); err == nil {
		t.Error("somebody else can read")
	}
	if err := r.as(1001, "rm open/l && test ! -e open/l && mknod open/n c 1 3"); err == nil {
		t.Error("a user can make a device")
	}
}

// TestPrivilegeIsDroppedOnWrite: set-user-id, set-group-id and capabilities go
// when somebody without privileges writes to a file.
func TestPrivilegeIsDroppedOnWrite(t *testing.T) {
	dir := tempDir(t)
	scripts := []string{"echo x >>%", "echo x >%", ": >%", "truncate -s 3 %", "dd if=/dev/zero of=% bs=1 count=1 conv=notrunc 2>/dev/null"}
	capability := []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for i := range scripts {
		for _, at := range []string{"base/b", "rw/r"} {
			p := filepath.Join(dir, at+strconv.Itoa(i))
			must(t, os.MkdirAll(filepath.Dir(p), 0o755))
			must(t, os.WriteFile(p, []byte("data"), 0o777))
			must(t, os.Chmod(p, 0o777|os.ModeSetuid|os.ModeSetgid))
			must(t, syscall.Setxattr(p, "security.capability", capability, 0))
		}
	}
	r := mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	for i, script := range scripts {
		for _, at := range []string{"b", "r"} {
			name := at + strconv.Itoa(i)
			script := strings.ReplaceAll(script, "%", name)
			if st := stat(t, r.path(name)); st.Mode&0o7777 != 0o6777 {
				t.Fatalf("%s: mode %o", name, st.Mode)
			}
			must(t, r.as(1000, script))
			if st := stat(t, r.path(name)); st.Mode&0o7000 != 0 {
				t.Errorf("%s: mode %o", script, st.Mode)
			}
			if n, err := syscall.Getxattr(r.path(name), "security.capability", make([]byte, 100)); err != syscall.ENODATA {
				t.Errorf("%s: capability of %d bytes (%v)", script, n, err)
			}
		}
	}
}

// TestOpenFilesAcrossCopyUp: who has a file open before it is copied up goes on
// reading what was there; who opens it afterwards has the copy.
func TestOpenFilesAcrossCopyUp(t *testing.T) {
	for _, options := range []string{"udba=none", "udba=reval"} {
		dir := tempDir(t)
		r := &rig{t: t, dir: dir}
		r.write("base/f", "old data")
		r = mountUnion(t, dir, "rw=rw:base=ro", options)
		old, err := os.Open(r.path("f"))
		must(t, err)
		mapped, err := syscall.Mmap(int(old.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
		must(t, err)
		before := stat(t, r.path("f"))
		must(t, os.WriteFile(r.path("f"), []byte("new data!"), 0))
		r.want("mnt/f", "new data!")
		r.want("rw/f", "new data!")
		r.want("base/f", "old data")
		if st := stat(t, r.path("f")); st.Ino != before.Ino || st.Size != 9 {
			t.Errorf("%s: inode number %d, size %d; it was %d", options, st.Ino, st.Size, before.Ino)
		}
		buf := make([]byte, 20)
		if n, err := old.ReadAt(buf, 0); string(buf[:n]) != "old data" || string(mapped) != "old data" {
			t.Errorf("%s: open: %q (%v), mapped: %q", options, buf[:n], err, mapped)
		}
		must(t, old.Chmod(0o600)) // through the old descriptor, to the file as it is now
		if st := stat(t, r.path("f")); options == "udba=reval" && st.Mode&0o777 != 0o600 {
			t.Errorf("mode %o", st.Mode)
		}
		must(t, syscall.Munmap(mapped))
		must(t, old.Close())
	}
}

// TestRemovedFilesThatAreOpen: they go on, can be described, changed and opened
// again by /proc.
func TestRemovedFilesThatAreOpen(t *testing.T) {
	dir := tempDir(t)
	r := &rig{t: t, dir: dir}
	r.write("base/low", "low")
	r.write("rw/up", "up")
	r.write("base/d/x", "x")
	r = mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	for _, name := range []string{"low", "up"} {
		f, err := os.OpenFile(r.path(name), os.O_RDWR, 0)
		must(t, err)
		ro, err := os.Open(r.path(name))
		must(t, err)
		must(t, os.Remove(r.path(name)))
		_, err = f.WriteAt([]byte("+++"), 3)
		must(t, err)
		must(t, f.Chmod(0o640))
		must(t, f.Truncate(5))
		st, err := ro.Stat()
		must(t, err)
		if st.Size() != 5 || st.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v %v", name, st.Size(), st.Mode())
		}
		again, err := os.ReadFile("/proc/self/fd/" + strconv.Itoa(int(ro.Fd())))
		if len(again) != 5 {
			t.Errorf("%s: opened again: %q (%v)", name, again, err)
		}
		must(t, os.WriteFile(r.path(name), []byte("other"), 0o644))
		must(t, f.Close())
		must(t, ro.Close())
		r.want("mnt/"+name, "other")
	}
	low, err := os.Open(r.path("d/x")) // never written to
	must(t, err)
	must(t, os.Remove(r.path("d/x")))
	must(t, low.Chmod(0o600))
	if st, err := low.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v (%v)", st, err)
	}
	must(t, low.Close())
	r.want("base/d/x", "x")
	d, err := os.Open(r.path("d"))
	must(t, err)
	must(t, os.Remove(r.path("d")))
	if st, err := d.Stat(); err != nil || !st.IsDir() {
		t.Errorf("%v (%v)", st, err)
	}
	if names, err := d.Readdirnames(-1); len(names) > 0 {
		t.Errorf("%v (%v)", names, err)
	}
	must(t, d.Close())
}

// TestKindsOfAccess: appending by two, files without names, allocation, holes,
// copying in the kernel, shared mappings, locks.
func TestKindsOfAccess(t *testing.T) {
	dir := tempDir(t)
	r := &rig{t: t, dir: dir}
	r.write("base/log", "0")
	r.write("base/holes", strings.Repeat("x", 8192))
	r = mountUnion(t, dir, "rw=rw:base=ro", "udba=none")

	a, err := os.OpenFile(r.path("log"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	b, err := os.OpenFile(r.path("log"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	for i := range 4 {
		_, err := []*os.File{a, b}[i%2].WriteString(strconv.Itoa(i + 1))
		must(t, err)
	}
	r.want("mnt/log", "01234")
	must(t, syscall.Flock(int(a.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	if err := syscall.Flock(int(b.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EWOULDBLOCK {
		t.Errorf("a second lock: %v", err)
	}
	must(t, a.Close())
	must(t, syscall.Flock(int(b.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	must(t, b.Close())

	d, err := dirat.Open(r.mnt)
	must(t, err)
	defer d.Close()
	tmp, err := d.OpenAt(".", dirat.Tmpfile|syscall.O_RDWR, 0o640)
	must(t, err)
	_, err = tmp.Pwrite([]byte("from nowhere"), 0)
	must(t, err)
	if err := tmp.LinkTo(d, "named"); err != nil {
		t.Errorf("name for a file without one: %v", err)
	} else {
		r.want("mnt/named", "from nowhere")
	}
	tmp.Close()

	h, err := os.OpenFile(r.path("holes"), os.O_RDWR, 0)
	must(t, err)
	const punch = 1 | 2 // keep size, punch hole
	must(t, syscall.Fallocate(int(h.Fd()), punch, 0, 4096))
	if at, err := h.Seek(0, 3); at != 4096 { // SEEK_DATA
		t.Errorf("data at %d (%v)", at, err)
	}
	mapped, err := syscall.Mmap(int(h.Fd()), 0, 8192, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(t, err)
	copy(mapped[100:], "mapped")
	must(t, syscall.Munmap(mapped))
	buf := make([]byte, 6)
	if _, err := h.ReadAt(buf, 100); string(buf) != "mapped" {
		t.Errorf("%q (%v)", buf, err)
	}
	must(t, h.Sync())
	must(t, h.Close())
	copied, err := os.Create(r.path("copy"))
	must(t, err)
	src, err := os.Open(r.path("holes"))
	must(t, err)
	if n, err := copied.ReadFrom(src); n != 8192 { // copy_file_range
		t.Errorf("copied %d (%v)", n, err)
	}
	must(t, copied.Close())
	must(t, src.Close())
	if err := syscall.Mkfifo(r.path("fifo"), 0o600); err != nil {
		t.Error(err)
	}
	must(t, r.as(0, "echo through >fifo & cat fifo >fifo.out; wait"))
	r.want("mnt/fifo.out", "through\n")
	var fs syscall.Statfs_t
	must(t, syscall.Statfs(r.mnt, &fs))
	if fs.Namelen != 251 || fs.Blocks == 0 {
		t.Errorf("%+v", fs)
	}
	if err := os.Mkdir(r.path(strings.Repeat("n", 252)), 0o755); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("a name of 252 letters: %v", err)
	}
	for _, name := range []string{".wh.x", ".wh..wh.orph"} {
		if err := os.Mkdir(r.path(name), 0o755); err == nil {
			t.Errorf("%s could be made", name)
		}
	}
}

// TestInodeNumbersSurvive: they are the same after copying up and mounting again.
func TestInodeNumbersSurvive(t *testing.T) {
	dir := tempDir(t)
	r := &rig{t: t, dir: dir}
	r.write("base/d/f", "f")
	r.write("base/g", "g")
	must(t, os.Link(filepath.Join(dir, "base/g"), filepath.Join(dir, "base/h")))
	r = mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	numbers := func(r *rig) (list []uint64) {
		for _, p := range []string{"", "d", "d/f", "g", "h"} {
			list = append(list, stat(t, r.path(p)).Ino)
		}
		return list
	}
	first := numbers(r)
	must(t, os.WriteFile(r.path("g"), []byte("changed"), 0))
	must(t, os.WriteFile(r.path("d/f"), []byte("changed"), 0))
	if got := numbers(r); !equal(got, first) {
		t.Errorf("copied up: %x, want %x", got, first)
	}
	r.unmount()
	r = mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	if got := numbers(r); !equal(got, first) {
		t.Errorf("mounted again: %x, want %x", got, first)
	}
	r.want("mnt/h", "changed")
}

func equal(a, b []uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
