package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxRead bounds what is read from a file of a group.
const maxRead = 1 << 20

func mkdir(p string) error {
	if err := unix.Mkdir(p, 0o755); err != nil {
		return &os.PathError{Op: "mkdir", Path: p, Err: err}
	}
	return nil
}

// write puts a value into a file of a group, in one call as the kernel wants.
func write(dir, file, value string) error {
	return writeFlags(dir, file, value, 0)
}

func writeFlags(dir, file, value string, flags int) error {
	p := dir + "/" + file
	fd, err := retry(func() (int, error) { return unix.Open(p, unix.O_WRONLY|unix.O_CLOEXEC|flags, 0o600) })
	if err != nil {
		return &os.PathError{Op: "open", Path: p, Err: err}
	}
	defer unix.Close(fd)
	if _, err := retry(func() (int, error) { return unix.Write(fd, []byte(value)) }); err != nil {
		return fmt.Errorf("write %q to %s: %w", value, p, err)
	}
	return nil
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func read(dir, file string) (string, error) {
	f, err := os.Open(dir + "/" + file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 0, 4096)
	for {
		n, err := f.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if n == 0 || len(b) >= maxRead {
			return strings.TrimSpace(string(b)), nil
		}
		if err != nil {
			return "", err
		}
		if len(b) == cap(b) {
			b = append(make([]byte, 0, 2*cap(b)), b...)
		}
	}
}

func readUint(dir, file string) (uint64, error) {
	s, err := read(dir, file)
	if err != nil {
		return 0, err
	}
	return parseUint(s), nil
}

// parseUint reads a counter; "max" and what is too large mean no limit.
func parseUint(s string) uint64 {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil && (s == "max" || errors.Is(err, strconv.ErrRange)) {
		return ^uint64(0)
	}
	return v
}

// readFlat reads a file of "name value" lines.
func readFlat(dir, file string) (map[string]uint64, error) {
	s, err := read(dir, file)
	if err != nil {
		return nil, err
	}
	return parseFlat(s), nil
}

func parseFlat(s string) map[string]uint64 {
	m := map[string]uint64{}
	for line := range strings.Lines(s) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			m[k] = parseUint(v)
		}
	}
	return m
}

func exists(dir, file string) bool {
	_, err := os.Lstat(dir + "/" + file)
	return err == nil
}

// below returns the group's directory and all below it, deepest last: a
// container with writable cgroups may have made some.
func below(p string) []string {
	dirs := []string{p}
	for i := 0; i < len(dirs); i++ {
		entries, err := os.ReadDir(dirs[i])
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() {
				dirs = append(dirs, dirs[i]+"/"+e.Name())
			}
		}
	}
	return dirs
}

// processes returns the pids in the directory and below it.
func processes(p string) ([]int, error) {
	var pids []int
	for _, d := range below(p) {
		s, err := read(d, "cgroup.procs")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for f := range strings.FieldsSeq(s) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// Pids returns the processes of the group and of those below it.
func (g *Group) Pids() ([]int, error) {
	if len(g.dirs) == 0 {
		return nil, nil
	}
	return processes(g.home().path)
}

// home is the directory whose list of processes counts: the one that freezes,
// if there is one.
func (g *Group) home() dir {
	if d, ok := g.dir("freezer"); ok {
		return d
	}
	return g.dirs[0]
}

func (g *Group) dir(controller string) (dir, bool) {
	for _, d := range g.dirs {
		for _, c := range d.controllers {
			if c == controller {
				return d, true
			}
		}
	}
	return dir{}, false
}

// removeTries and removePause bound Remove: a process leaves its group a
// moment after its parent has learned of its end. Together they are 0.6 s.
const (
	removeTries = 12
	removePause = 300 * time.Microsecond
)

// Remove removes the group and those below it in all trees. It waits a moment
// for processes that are ending; others make it fail (EBUSY), but for a scope's,
// which systemd ends. A group that is gone is removed.
func (g *Group) Remove() error {
	errs := []error{g.Close(), g.stop()}
	for _, d := range g.dirs {
		errs = append(errs, remove(d.path))
	}
	return errors.Join(errs...)
}

func remove(p string) error {
	pause := removePause
	for i := 0; ; i++ {
		err := rmdir(p)
		if err == nil || i == removeTries || !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		dirs := below(p)
		for j := len(dirs) - 1; j > 0; j-- {
			_ = rmdir(dirs[j]) // p itself says whether it worked
		}
		if len(dirs) == 1 || i > 0 {
			time.Sleep(pause)
			pause = min(2*pause, 100*time.Millisecond)
		}
	}
}

// rmdir removes one directory; one that is gone is removed.
func rmdir(p string) error {
	err := unix.Rmdir(p)
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "rmdir", Path: p, Err: err}
	}
	return nil
}
