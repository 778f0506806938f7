package mount

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is a mount as proc_pid_mountinfo(5) shows it.
type entry struct {
	id     uint64
	path   string
	fstype string
}

// maxMountinfo is far more than what the kernel lets a namespace have
// (fs.mount-max).
const maxMountinfo = 64 << 20

// mounts lists those of the thread's namespace, parents before what lies in
// them.
func mounts(proc *os.File) ([]entry, error) {
	fd, err := unix.Openat(int(proc.Fd()), "thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "mountinfo", Err: err}
	}
	f := os.NewFile(uintptr(fd), "mountinfo")
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMountinfo))
	if err != nil {
		return nil, err
	}
	return parse(b), nil
}

// Below lists the mounts at and below a trusted directory, links in its path
// followed, parents before what lies in them. Of one that is not there it is empty.
func Below(dir string) (paths []string, err error) {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	host, err := proc()
	if err != nil {
		return nil, err
	}
	list, err := mounts(host)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if m.path == real || strings.HasPrefix(m.path, strings.TrimSuffix(real, "/")+"/") {
			paths = append(paths, m.path)
		}
	}
	return paths, nil
}

// DetachBelow detaches what Below lists.
func DetachBelow(dir string) error {
	list, err := Below(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range slices.Backward(list) {
		errs = append(errs, Detach(path))
	}
	return errors.Join(errs...)
}

func parse(mountinfo []byte) []entry {
	var list []entry
	for line := range bytes.Lines(mountinfo) {
		if e, ok := parseLine(string(line)); ok {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b entry) int { return strings.Count(a.path, "/") - strings.Count(b.path, "/") })
	return list
}

// parseLine reads a line such as
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parseLine(line string) (e entry, ok bool) {
	front, back, ok := strings.Cut(line, " - ")
	fields, of := strings.Fields(front), strings.Fields(back)
	if !ok || len(fields) < 6 || len(of) < 1 {
		return e, false
	}
	id, err := strconv.ParseUint(fields[0], 10, 64)
	e = entry{id: id, path: unescape(fields[4]), fstype: of[0]}
	return e, err == nil && strings.HasPrefix(e.path, "/")
}

// unescape turns \040 and its like into the bytes that they stand for.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// clone copies the mount if it is what a path leads to; nil if another one
// covers it, or it has gone.
func (e entry) clone() (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, e.path, &how)
	if err != nil {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), e.path)
	defer f.Close()
	id, err := idOf(f)
	if err != nil {
		return nil, err
	}
	if id != e.id {
		return nil, nil
	}
	m, err := CloneOf(f, false)
	if err != nil && unclonable(err) {
		return nil, nil
	}
	return m, err
}

// unclonable reports whether the owner of a mount does not let it be copied
// (MS_UNBINDABLE), or has hidden something with it.
func unclonable(err error) bool {
	pe, ok := err.(*os.PathError)
	return ok && pe.Err == unix.EINVAL
}
