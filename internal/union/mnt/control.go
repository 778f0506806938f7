package mnt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/server"
	"github.com/tare-engine/tare/internal/union/tree"
)

// A request is one line, with the directory of a branch as a descriptor beside
// it where there is one:
//
//	ls
//	add INDEX DIR=PERM      index -1 is below all others
//	mod DIR=PERM
//	del DIR
//
// The answer is "ok", and lines of branches for ls, or "error" or "busy" (EBUSY)
// and a text.

// maxRequest bounds a line.
const maxRequest = 8 << 10

// Union is a union mount that was found.
type Union struct {
	ID   string
	Path string // where it is mounted
}

// Find finds the union mount that a path lies in.
func Find(path string) (Union, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Union{}, err
	}
	list, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return Union{}, err
	}
	var best *mountinfo.Info
	for _, m := range list {
		if best == nil || len(m.Mountpoint) >= len(best.Mountpoint) { // of equals the last is on top
			best = m
		}
	}
	if best == nil || best.FSType != Type {
		return Union{}, fmt.Errorf("%s: it is not in a union mount", path)
	}
	return Union{ID: best.Source, Path: best.Mountpoint}, nil
}

// Branches lists the branches, topmost first.
func (u Union) Branches() ([]union.Branch, error) {
	lines, err := u.ask("ls", nil)
	if err != nil {
		return nil, err
	}
	var list []union.Branch
	for _, l := range lines {
		b, err := union.ParseBranch(l)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// Add puts a branch at an index; -1 is below all others.
func (u Union) Add(index int, b union.Branch) error {
	return u.withDir(fmt.Sprint("add ", index, " "), b)
}

// Modify changes what the union may do with a branch.
func (u Union) Modify(b union.Branch) error { return u.withDir("mod ", b) }

// Delete removes a branch.
func (u Union) Delete(dir string) error {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	var err error
	for range attempts {
		if _, err = u.ask("del "+filepath.Clean(dir), nil); err != nil && !isErrno(err, syscall.EBUSY) {
			return err
		}
		// It may be in nobody's use, only remembered by the kernel, which takes a
		// moment to tell the server that it has forgotten.
		if shrunk := u.shrink(); err == nil || shrunk != nil {
			return shrunk
		}
		time.Sleep(5 * time.Millisecond)
	}
	return err
}

// attempts bounds how often a branch that is in use is tried again.
const attempts = 40

// shrink makes the kernel forget what nobody uses.
func (u Union) shrink() error {
	fs, err := mount.PickFS(u.Path)
	if err != nil {
		return err
	}
	defer fs.Close()
	return fs.Reconfigure()
}

func (u Union) withDir(request string, b union.Branch) error {
	list, err := realDirs([]union.Branch{b})
	if err != nil {
		return err
	}
	d, err := clone(list[0], nil)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := u.ask(request+list[0].String(), d); err != nil {
		return err
	}
	return u.shrink() // it remembers names that were not there
}

// Unmount ends the mount; EBUSY while it is in use. It waits a moment for the
// server to end, which goes on if the file system is mounted elsewhere too.
func (u Union) Unmount() error {
	if err := mount.Unmount(u.Path); err != nil {
		return err
	}
	for range 500 {
		if _, err := os.Lstat(socketPath(u.ID)); os.IsNotExist(err) || gone(socketPath(u.ID)) {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

func (u Union) ask(request string, dir *os.File) ([]string, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketPath(u.ID), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%s: its server does not answer: %w", u.Path, err)
	}
	defer c.Close()
	var rights []byte
	if dir != nil {
		rights = syscall.UnixRights(int(dir.Fd()))
	}
	if _, _, err := c.WriteMsgUnix([]byte(request+"\n"), rights, nil); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return nil, err
	}
	first, rest, _ := strings.Cut(string(answer), "\n")
	switch rest = strings.TrimSpace(rest); first {
	case "ok":
	case "busy":
		return nil, busyError(rest)
	default:
		return nil, errors.New(rest)
	}
	return strings.Split(strings.TrimSuffix(rest, "\n"), "\n"), nil
}

// busyError is what the server says of a branch that is in use.
type busyError string

func (e busyError) Error() string { return string(e) }

func (busyError) Unwrap() error { return syscall.EBUSY }

// control answers requests, one after the other.
func control(socket *os.File, s *server.Server) {
	l, err := net.FileListener(socket)
	socket.Close()
	if err != nil {
		return
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		answer(c.(*net.UnixConn), s)
		c.Close()
	}
}

func answer(c *net.UnixConn, s *server.Server) {
	line, dir, err := receive(c)
	var lines []string
	if err == nil {
		lines, err = handle(s, line, dir)
	}
	w := bufio.NewWriter(c)
	defer w.Flush()
	switch {
	case isErrno(err, syscall.EBUSY):
		fmt.Fprintf(w, "busy\n%s\n", err)
		return
	case err != nil:
		fmt.Fprintf(w, "error\n%s\n", err)
		return
	}
	fmt.Fprintln(w, "ok")
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
}

// receive reads a request; dir is dirat.None if none came with it.
func receive(c *net.UnixConn) (line string, dir dirat.FD, err error) {
	dir = dirat.None
	buf, oob := make([]byte, maxRequest), make([]byte, syscall.CmsgSpace(4))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return "", dir, err
	}
	fds, err := descriptors(oob[:oobn])
	if len(fds) > 0 {
		dir = dirat.FD(fds[0])
	}
	line, complete := strings.CutSuffix(string(buf[:n]), "\n")
	if err == nil && (!complete || len(fds) > 1 || flags&syscall.MSG_CTRUNC != 0) {
		err = errors.New("the request is not one line with one directory at most")
	}
	if err != nil {
		for _, fd := range fds {
			syscall.Close(fd)
		}
		return "", dirat.None, err
	}
	return line, dir, nil
}

func descriptors(oob []byte) (fds []int, err error) {
	list, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		some, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return fds, err
		}
		for _, fd := range some {
			syscall.CloseOnExec(fd)
		}
		fds = append(fds, some...)
	}
	return fds, nil
}

// handle does what a request asks for. It owns dir.
func handle(s *server.Server, line string, dir dirat.FD) ([]string, error) {
	verb, arg, _ := strings.Cut(line, " ")
	if wants := verb == "add" || verb == "mod"; wants != (dir >= 0) {
		dir.Close()
		return nil, fmt.Errorf("request %q: a directory must come with add and mod, and with no other", verb)
	}
	switch verb {
	case "ls":
		var lines []string
		for _, b := range s.Branches() {
			lines = append(lines, b.String())
		}
		return lines, nil
	case "del":
		return nil, s.Delete(arg)
	case "add", "mod":
		return nil, handleDir(s, verb, arg, dir)
	}
	return nil, fmt.Errorf("unknown request %q", verb)
}

func handleDir(s *server.Server, verb, arg string, dir dirat.FD) error {
	index := 0
	if verb == "add" {
		number, rest, _ := strings.Cut(arg, " ")
		var err error
		if index, err = strconv.Atoi(number); err != nil {
			dir.Close()
			return fmt.Errorf("%q is no index", number)
		}
		arg = rest
	}
	b, err := union.ParseBranch(arg)
	if err != nil {
		dir.Close()
		return err
	}
	src := tree.Source{Branch: b, Root: dir}
	if verb == "mod" {
		return s.Modify(src)
	}
	return s.Add(index, src)
}

func isErrno(err error, no syscall.Errno) bool { return errors.Is(err, no) }
