//go:build root

package mnt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/model"
)

// TestMain is also the server program, and runs the tests in mounts of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ServeVerb {
		if err := Serve(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv("TARE_UNION_MOUNTS") == "" {
		os.Exit(runApart())
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	syscall.Umask(0)
	os.Exit(m.Run())
}

func runApart() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), "TARE_UNION_MOUNTS=own")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if cmd.Run() != nil {
		return 1
	}
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tempDir is a directory on a file system of its own, as overlayfs wants it.
func tempDir(t testing.TB) string {
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755)) // users come by
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// rig is a mounted union.
type rig struct {
	t   testing.TB
	dir string // has the branches by their names, and mnt
	mnt string
	Union

	appended [2]int // lines
}

// mountUnion mounts branches NAME=PERM, which are made if they are not there, with
// options, and unmounts at the end of the test.
func mountUnion(t testing.TB, dir, branches, options string) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, mnt: filepath.Join(dir, "mnt")}
	var list []string
	for b := range strings.SplitSeq(branches, ":") {
		name, perm, _ := strings.Cut(b, "=")
		must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
		list = append(list, filepath.Join(dir, name)+"="+perm)
	}
	must(t, os.MkdirAll(r.mnt, 0o755))
	c, err := union.ParseConfig("br:" + strings.Join(list, ":") + strings.TrimSuffix(","+options, ","))
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	must(t, Mount(self, c, r.mnt))
	r.Union, err = Find(r.mnt)
	must(t, err)
	t.Cleanup(r.unmount)
	return r
}

func (r *rig) unmount() {
	if _, err := os.Stat(socketPath(r.ID)); os.IsNotExist(err) {
		return // by the test
	}
	if err := r.Unmount(); err != nil {
		r.t.Errorf("unmount: %v", err)
		syscall.Unmount(r.mnt, syscall.MNT_DETACH)
	}
	until(r.t, "the server ends", func() bool { // a killed one leaves its socket
		gone(socketPath(r.ID))
		_, err := os.Stat(socketPath(r.ID))
		return os.IsNotExist(err)
	})
}

func (r *rig) path(p string) string { return filepath.Join(r.mnt, p) }

func (r *rig) write(p, data string) {
	r.t.Helper()
	must(r.t, os.MkdirAll(filepath.Dir(filepath.Join(r.dir, p)), 0o755))
	must(r.t, os.WriteFile(filepath.Join(r.dir, p), []byte(data), 0o644))
}

func (r *rig) want(p, data string) {
	r.t.Helper()
	got, err := os.ReadFile(filepath.Join(r.dir, p))
	if err != nil || string(got) != data {
		r.t.Errorf("%s: %q (%v), want %q", p, got, err, data)
	}
}

func (r *rig) wantGone(p string) {
	r.t.Helper()
	if _, err := os.Lstat(filepath.Join(r.dir, p)); !os.IsNotExist(err) {
		r.t.Errorf("%s: it is there (%v)", p, err)
	}
}

// paths does a model's operations below a directory. Where the kernel follows a
// link on the way, the model does not, and the answer is ENOTDIR.
type paths string

func (d paths) at(p string) (string, error) {
	for q := filepath.Dir(p); q != "/"; q = filepath.Dir(q) {
		st, err := os.Lstat(string(d) + q)
		if err == nil && !st.IsDir() {
			return "", syscall.ENOTDIR
		}
	}
	return string(d) + p, nil
}

func errno(err error) error {
	if err == nil {
		return nil
	}
	for _, no := range []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.EEXIST, syscall.EISDIR, syscall.ENOTEMPTY, syscall.EROFS,
		syscall.EXDEV, syscall.EINVAL, syscall.EPERM, syscall.EOPNOTSUPP} {
		if errors.Is(err, no) {
			return no
		}
	}
	return err
}

func (d paths) Make(p string, f model.File) error {
	at, err := d.at(p)
	if err != nil {
		return err
	}
	switch f.Kind {
	case syscall.S_IFDIR:
		return errno(syscall.Mkdir(at, f.Mode))
	case syscall.S_IFLNK:
		return errno(syscall.Symlink(f.Data, at))
	}
	file, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fs.FileMode(f.Mode))
	if err != nil {
		return errno(err)
	}
	defer file.Close()
	_, err = file.WriteString(f.Data)
	return errno(err)
}

func (d paths) kind(p string) (string, fs.FileMode, error) {
	at, err := d.at(p)
	if err != nil {
		return "", 0, err
	}
	st, err := os.Lstat(at)
	if err != nil {
		return "", 0, errno(err)
	}
	return at, st.Mode().Type(), nil
}

func (d paths) Write(p, data string) error {
	at, kind, err := d.kind(p)
	if err != nil {
		return err
	}
	if !kind.IsRegular() {
		return syscall.EINVAL
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return errno(err)
	}
	defer f.Close()
	_, err = f.WriteString(data)
	return errno(err)
}

func (d paths) Chmod(p string, mode uint32) error {
	at, kind, err := d.kind(p)
	if err != nil {
		return err
	}
	if kind == fs.ModeSymlink {
		return syscall.EOPNOTSUPP
	}
	return errno(syscall.Chmod(at, mode))
}

func (d paths) Unlink(p string) error {
	at, err := d.at(p)
	if err != nil {
		return err
	}
	return errno(syscall.Unlink(at))
}

func (d paths) Rmdir(p string) error {
	at, err := d.at(p)
	if err != nil {
		return err
	}
	return errno(syscall.Rmdir(at))
}

func (d paths) Link(p, q string) error {
	from, _, err := d.kind(p)
	if err != nil {
		return err
	}
	to, err := d.at(q)
	if err != nil {
		return err
	}
	return errno(syscall.Link(from, to))
}

func (d paths) Rename(p, q string, noReplace, exchange bool) error {
	from, err := d.at(p)
	if err != nil {
		return err
	}
	// The kernel resolves both directories before it asks for a name.
	if _, err := os.Lstat(filepath.Dir(from)); err != nil {
		return errno(err)
	}
	to, err := d.at(q)
	if err != nil {
		return err
	}
	var flags uint
	if noReplace {
		flags |= 1
	}
	if exchange {
		flags |= 2
	}
	return errno(renameat2(from, to, flags))
}
