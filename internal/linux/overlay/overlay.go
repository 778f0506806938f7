// Package overlay makes overlayfs mounts that are attached nowhere: the result
// is a descriptor, to be opened through or to be attached by move_mount(2).
package overlay

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Options of a mount. Lower directories come topmost first. Without Upper the
// mount is read-only.
type Options struct {
	Lower       []string
	Upper, Work string
	Volatile    bool // never write to disk what is changed
	Metacopy    bool // changes of metadata copy no data up; directories are renamed at once
	// Settings are overlayfs's own options, KEY=VALUE or a word, in place of those that
	// this package chooses. nil: it chooses.
	Settings []string
	// UserNS maps the ids of the lower directories (kernel 5.19). The upper
	// directory stays as it is: overlayfs makes a mount with a mapped one
	// read-only. nil: nothing is mapped.
	UserNS *os.File
	// Unmapped is how many of the lower directories, topmost first, UserNS does
	// not concern.
	Unmapped int
	// Scratch is a directory for the fall-back, on any file system; only this
	// package's own entries are made in it.
	Scratch string
}

// maxValue is what fsconfig(2) takes as a string, without the final zero.
const maxValue = 255

// Mount makes the mount. The caller closes it. One that is to be written to, and which
// the kernel makes read-only as its work directory has no room, is ENOSPC.
func Mount(o Options) (*os.File, error) {
	m, err := mount(o)
	if err != nil || o.Upper == "" {
		return m, err
	}
	if err := writable(m, o.Work); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// writable finds out whether the kernel has given up writing: it does so without an
// error if it can make nothing in the work directory.
func writable(m *os.File, work string) error {
	var got, below unix.Statfs_t
	err := unix.Fstatfs(int(m.Fd()), &got)
	if err != nil || got.Flags&unix.ST_RDONLY == 0 {
		return os.NewSyscallError("fstatfs", err)
	}
	why := error(unix.EROFS)
	if unix.Statfs(work, &below) == nil && (below.Bavail == 0 || below.Files > 0 && below.Ffree == 0) {
		why = unix.ENOSPC
	}
	return fmt.Errorf("mount overlay: nothing can be made in %s: %w", work, why)
}

func mount(o Options) (*os.File, error) {
	if o.UserNS != nil {
		return mountMapped(o)
	}
	if os.Getenv("TARE_PROBE") != "5.10" && byLayer() {
		return mountByLayer(o)
	}
	return mountLegacy(o)
}

// byLayer reports whether overlayfs takes its lower directories one by one:
// "lowerdir+", since 6.7. Before 6.5 it knew nothing of fsconfig(2), and the
// kernel collected any option for it unseen, to be refused at the mount.
var byLayer = sync.OnceValue(func() bool {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fs)
	if unix.FsconfigSetString(fs, "no-such-option", "") == nil {
		return false
	}
	return unix.FsconfigSetString(fs, "lowerdir+", "/") == nil
})

// mountByLayer hands the layers over one by one (Linux 6.7).
func mountByLayer(o Options) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fs)
	for _, dir := range o.Lower {
		if err := setPath(fs, "lowerdir+", dir); err != nil {
			return nil, fmt.Errorf("overlay: lower directory %s: %w", dir, err)
		}
	}
	return create(fs, o)
}

// create makes the mount of a context that has its lower directories.
func create(fs int, o Options) (*os.File, error) {
	if err := setUpper(fs, o); err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, explain(fs, err)
	}
	attr := 0
	if o.Upper == "" {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, explain(fs, err)
	}
	return os.NewFile(uintptr(m), "overlay"), nil
}

func setUpper(fs int, o Options) error {
	if o.Upper != "" {
		if err := setPath(fs, "upperdir", o.Upper); err != nil {
			return fmt.Errorf("overlay: upper directory %s: %w", o.Upper, err)
		}
		if err := setPath(fs, "workdir", o.Work); err != nil {
			return fmt.Errorf("overlay: work directory %s: %w", o.Work, err)
		}
	}
	for _, s := range o.settings() {
		if err := s.set(fs); err != nil {
			return fmt.Errorf("overlay: %s: %w", s, err)
		}
	}
	if o.Volatile && o.Upper != "" {
		if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
			return fmt.Errorf("overlay: volatile: %w", err)
		}
	}
	return nil
}

// setting is an option: KEY=VALUE or a word.
type setting string

func (s setting) set(fs int) error {
	key, value, ok := strings.Cut(string(s), "=")
	if !ok {
		return unix.FsconfigSetFlag(fs, key)
	}
	return unix.FsconfigSetString(fs, key, value)
}

// settings are the same whatever the kernel was built with: an index refuses an
// upper directory that a dying mount still holds, and redirections make the
// upper directory unreadable without the lower ones, as metacopy does anyway,
// which needs them.
func (o Options) settings() []setting {
	switch {
	case o.Settings != nil:
		own := make([]setting, len(o.Settings))
		for i, s := range o.Settings {
			own[i] = setting(s)
		}
		return own
	case !o.Metacopy:
		return []setting{"index=off", "redirect_dir=off"}
	case o.Upper == "":
		return []setting{"index=off", "redirect_dir=follow", "metacopy=on"}
	}
	return []setting{"index=off", "redirect_dir=on", "metacopy=on"}
}

// setPath sets an option to a path. One that is too long for fsconfig goes by
// a descriptor's name, which the kernel resolves at once.
func setPath(fs int, key, p string) error {
	if len(p) <= maxValue {
		return unix.FsconfigSetString(fs, key, p)
	}
	fd, err := unix.Open(p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.FsconfigSetString(fs, key, "/proc/self/fd/"+strconv.Itoa(fd))
}

// explain adds what the kernel wrote into the context's log.
func explain(fs int, err error) error {
	var b [1024]byte
	var said []string
	for len(said) < 8 {
		n, e := unix.Read(fs, b[:])
		if e != nil || n == 0 {
			break
		}
		said = append(said, strings.TrimSpace(string(b[:n])))
	}
	if len(said) > 0 {
		return fmt.Errorf("mount overlay: %w (%s)", err, strings.Join(said, "; "))
	}
	return fmt.Errorf("mount overlay: %w", err)
}

// mountLegacy is for kernels before 6.7. All options of mount(2) must fit into
// one page: the directories go by two-letter links, relative to a scratch
// directory in which a thread of its own stands. 400 layers take 1,200 bytes.
func mountLegacy(o Options) (*os.File, error) { return mountPaged(o, nil) }

// mountPaged is mountLegacy; mapped, if not nil, are mounts that take the place
// of the lower directories.
func mountPaged(o Options, mapped []*os.File) (*os.File, error) {
	dir, err := os.MkdirTemp(o.Scratch, "overlay-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	lower := make([]string, len(o.Lower))
	for i, p := range o.Lower {
		if lower[i], err = shortName(i); err != nil {
			return nil, err
		}
		if mapped != nil {
			err = os.Mkdir(dir+"/"+lower[i], 0o700)
		} else {
			err = os.Symlink(p, dir+"/"+lower[i])
		}
		if err != nil {
			return nil, err
		}
	}
	options := ""
	for _, s := range o.settings() {
		options += string(s) + ","
	}
	options += "lowerdir=" + strings.Join(lower, ":")
	if o.Upper != "" {
		if err := errors.Join(os.Symlink(o.Upper, dir+"/u"), os.Symlink(o.Work, dir+"/w")); err != nil {
			return nil, err
		}
		options += ",upperdir=u,workdir=w"
		if o.Volatile {
			options += ",volatile"
		}
	}
	return mountIn(dir, options, o.Upper == "", func() error { return attach(mapped, lower) })
}

// attach puts mounts onto directories below the working directory.
func attach(mounts []*os.File, at []string) error {
	for i, m := range mounts {
		if err := unix.MoveMount(int(m.Fd()), "", unix.AT_FDCWD, at[i], unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("move_mount %s: %w", m.Name(), err)
		}
	}
	return nil
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

func shortName(i int) (string, error) {
	if i >= len(letters)*len(letters) {
		return "", fmt.Errorf("overlay: %d lower directories: %w", i, unix.E2BIG)
	}
	return string(letters[i/len(letters)]) + string(letters[i%len(letters)]), nil
}

// mountIn mounts with dir as the working directory and returns the mount,
// detached. The thread that changed its directory is not used again, and the
// mount is seen in its private mount namespace only.
func mountIn(dir, options string, readOnly bool, before func() error) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	c := make(chan result)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		f, err := mountHere(dir, options, readOnly, before)
		c <- result{f, err}
	}()
	r := <-c
	return r.f, r.err
}

func mountHere(dir, options string, readOnly bool, before func() error) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Mkdir("m", 0700), before()); err != nil {
		return nil, err
	}
	flags := uintptr(0)
	if readOnly {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount("overlay", "m", "overlay", flags, options); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "m", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err := unix.Unmount("m", unix.MNT_DETACH); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("open_tree: %w", err)
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// Supported reports whether overlayfs can be mounted with an upper directory
// below dir, and why not.
func Supported(dir string, metacopy bool) error {
	tmp, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(tmp+"/"+d, 0700); err != nil {
			return err
		}
	}
	m, err := Mount(Options{Lower: []string{tmp + "/lower"}, Upper: tmp + "/upper", Work: tmp + "/work", Metacopy: metacopy, Scratch: tmp})
	if err != nil {
		return err
	}
	defer m.Close()
	return upperIsWhole(tmp + "/upper")
}

// upperIsWhole tries the trusted attribute that overlayfs stores in its upper
// directory: without it directories cannot become opaque.
func upperIsWhole(dir string) error {
	if err := unix.Setxattr(dir, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("%s: trusted attributes: %w", dir, err)
	}
	return nil
}

// Opaque reports whether a directory of an upper directory hides the lower one.
func Opaque(dir *os.File) bool {
	var v [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), "trusted.overlay.opaque", v[:])
	return err == nil && n == 1 && v[0] == 'y'
}
