package mnt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// A request is one line, with the directories of branches as descriptors beside
// it where there are any:
//
//	ls
//	add INDEX DIR=PERM[:DIR=PERM...]   all or none; index -1 is below all others
//	mod DIR=PERM
//	del DIR[:DIR...]                   all or none
//	create POLICY
//	end                                the server ends, whoever uses the union
//
// The answer is "ok", and lines of branches for ls, or "error" or "busy" (EBUSY)
// and a text.

// patience bounds a request and its answer.
const patience = 30 * time.Second

// maxRequest bounds a line, maxDirs what comes beside it: SCM_MAX_FD of the kernel.
const (
	maxRequest = 64 << 10
	maxDirs    = 253
)

// Union is a union mount that was found.
type Union struct {
	ID   string
	Path string   // where it is mounted
	NS   *os.File // a user namespace that maps the ids of branches to come, but of rw ones; nil: they are as they are
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
	lines, err := u.ask("ls")
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

// Add puts branches at an index; -1 is below all others. All come, or none.
func (u Union) Add(index int, list ...union.Branch) error {
	return u.withDirs(fmt.Sprint("add ", index, " "), list...)
}

// Modify changes what the union may do with a branch.
func (u Union) Modify(b union.Branch) error { return u.withDirs("mod ", b) }

// SetCreate changes which writable branch gets something new.
func (u Union) SetCreate(p union.Placement) error {
	_, err := u.ask("create " + p.String())
	return err
}

// Delete removes branches, all or none.
func (u Union) Delete(dirs ...string) error {
	dirs = slices.Clone(dirs)
	for i, dir := range dirs {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
		}
		dirs[i] = filepath.Clean(dir)
	}
	var err error
	for range attempts {
		if _, err = u.ask("del " + strings.Join(dirs, ":")); err != nil && !errors.Is(err, syscall.EBUSY) {
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

func (u Union) withDirs(request string, list ...union.Branch) error {
	list, err := realDirs(list)
	if err != nil {
		return err
	}
	in, err := os.OpenFile(u.Path, oPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if len(list) > maxDirs {
		return fmt.Errorf("%d branches at once; %d can come", len(list), maxDirs)
	}
	var dirs []*os.File
	defer func() { closeAll(dirs) }()
	for _, b := range list {
		ns := u.NS
		if b.Perm == union.RW {
			ns = nil
		}
		d, err := clone(b, ns, in)
		if err != nil {
			return err
		}
		dirs = append(dirs, d)
	}
	if _, err := u.ask(request+union.Format(list), dirs...); err != nil {
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

// End ends the server of a union, if there is one: whoever uses the file system still
// gets ENOTCONN, and its branches are another's to write to.
func End(id string) error {
	_, err := Union{ID: id, Path: id}.ask("end")
	if errors.Is(err, ErrNoServer) {
		return nil
	}
	return err
}

// ErrNoServer says that the server of a union has ended, or hangs.
var ErrNoServer = errors.New("its server does not answer")

// ErrKilled says that a server has ended before it answered. Another one takes over, and
// a change has been made, wholly, or has not.
var ErrKilled = errors.New("its server was killed meanwhile; the list of branches says whether it is done")

// ask sends a request, and returns the lines of the answer.
func (u Union) ask(request string, dirs ...*os.File) ([]string, error) {
	if len(request) >= maxRequest {
		return nil, fmt.Errorf("the directories of the branches have too many letters together: %d", len(request))
	}
	answer, err := u.exchange(request+"\n", dirs)
	// To be asked twice does no harm to these. A server that ends by itself, because its
	// last mount has gone, takes requests that it does not answer.
	again := request == "ls" || request == "end"
	for n := 0; cutOff(err) && again && n < attempts; n++ {
		answer, err = u.exchange(request+"\n", nil)
	}
	if cutOff(err) {
		return nil, fmt.Errorf("%s: %w", u.Path, ErrKilled)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", u.Path, ErrNoServer, err)
	}
	first, rest, _ := strings.Cut(answer, "\n")
	switch rest = strings.TrimSpace(rest); first {
	case "ok":
	case "busy":
		return nil, busyError(rest)
	default:
		return nil, errors.New(rest)
	}
	return strings.Split(strings.TrimSuffix(rest, "\n"), "\n"), nil
}

// cutOff tells whether somebody has taken a request and not answered it.
func cutOff(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (u Union) exchange(line string, dirs []*os.File) (string, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketPath(u.ID), Net: "unix"})
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	var rights []byte
	if len(dirs) > 0 {
		fds := make([]int, len(dirs))
		for i, d := range dirs {
			fds[i] = int(d.Fd())
		}
		rights = syscall.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix([]byte(line), rights, nil)
	if err == nil && n < len(line) {
		_, err = c.Write([]byte(line[n:]))
	}
	if err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	if err == nil && len(answer) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(answer), err
}

// busyError is what the server says of a branch that is in use.
type busyError string

func (e busyError) Error() string { return string(e) }

func (busyError) Unwrap() error { return syscall.EBUSY }

// control answers requests that come by a listening socket, one after the other. The
// descriptor stays for whoever takes over. When it is asked for, end ends the process.
func control(socket int, s *server.Server, end func()) error {
	fd, err := syscall.Dup(socket)
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "socket")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return err
	}
	go accept(l, s, end)
	return nil
}

func accept(l net.Listener, s *server.Server, end func()) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is left: others give theirs back
			time.Sleep(100 * time.Millisecond)
			continue
		}
		c.SetDeadline(time.Now().Add(patience))
		ends := answer(c.(*net.UnixConn), s)
		c.Close()
		if ends {
			end()
		}
	}
}

// answer answers a request, and tells whether it is the last.
func answer(c *net.UnixConn, s *server.Server) (ends bool) {
	line, dirs, err := receive(c)
	var lines []string
	if err == nil {
		lines, err = handle(s, line, dirs)
	}
	w := bufio.NewWriter(c)
	defer w.Flush()
	switch {
	case errors.Is(err, syscall.EBUSY):
		fmt.Fprintf(w, "busy\n%s\n", err)
		return false
	case err != nil:
		fmt.Fprintf(w, "error\n%s\n", err)
		return false
	}
	fmt.Fprintln(w, "ok")
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
	return line == "end"
}

// receive reads a request and the descriptors that come with it.
func receive(c *net.UnixConn) (string, []dirat.FD, error) {
	buf, oob := make([]byte, maxRequest), make([]byte, syscall.CmsgSpace(4*maxDirs))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return "", nil, err
	}
	dirs, err := descriptors(oob[:oobn])
	for err == nil && n > 0 && n < len(buf) && buf[n-1] != '\n' { // a long one comes in pieces
		var more int
		more, err = c.Read(buf[n:])
		n += more
	}
	line, complete := strings.CutSuffix(string(buf[:n]), "\n")
	if err == nil && (!complete || flags&syscall.MSG_CTRUNC != 0) {
		err = errors.New("the request is not one line with its directories")
	}
	if err != nil {
		closeDirs(dirs)
		return "", nil, err
	}
	return line, dirs, nil
}

func closeDirs(dirs []dirat.FD) {
	for _, d := range dirs {
		d.Close()
	}
}

func descriptors(oob []byte) (dirs []dirat.FD, err error) {
	list, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		some, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return dirs, err
		}
		for _, fd := range some {
			syscall.CloseOnExec(fd)
			dirs = append(dirs, dirat.FD(fd))
		}
	}
	return dirs, nil
}

// handle does what a request asks for. It owns dirs.
func handle(s *server.Server, line string, dirs []dirat.FD) ([]string, error) {
	verb, arg, _ := strings.Cut(line, " ")
	if wants := verb == "add" || verb == "mod"; wants != (len(dirs) > 0) {
		closeDirs(dirs)
		return nil, fmt.Errorf("request %q: directories must come with add and mod, and with no other", verb)
	}
	switch verb {
	case "ls":
		var lines []string
		for _, b := range s.Branches() {
			lines = append(lines, b.String())
		}
		return lines, nil
	case "end":
		return nil, nil
	case "del":
		return nil, s.Delete(strings.Split(arg, ":")...)
	case "create":
		p, err := union.ParsePlacement(arg)
		if err == nil {
			s.SetCreate(p)
		}
		return nil, err
	case "add":
		return nil, handleAdd(s, arg, dirs)
	case "mod":
		list, err := sourcesOf(arg, dirs)
		if err != nil {
			return nil, err
		}
		closeDirs(dirs[1:])
		return nil, s.Modify(list[0])
	}
	return nil, fmt.Errorf("unknown request %q", verb)
}

func handleAdd(s *server.Server, arg string, dirs []dirat.FD) error {
	number, rest, _ := strings.Cut(arg, " ")
	index, err := strconv.Atoi(number)
	if err != nil {
		closeDirs(dirs)
		return fmt.Errorf("%q is no index", number)
	}
	list, err := sourcesOf(rest, dirs)
	if err != nil {
		return err
	}
	return s.Add(index, list...)
}

// sourcesOf joins branches with their directories, or closes these.
func sourcesOf(arg string, dirs []dirat.FD) ([]tree.Source, error) {
	parts := strings.Split(arg, ":")
	list := make([]tree.Source, len(parts))
	err := error(nil)
	if len(parts) != len(dirs) {
		err = fmt.Errorf("%d branches and %d directories", len(parts), len(dirs))
	}
	for i := 0; err == nil && i < len(parts); i++ {
		list[i].Root = dirs[i]
		list[i].Branch, err = union.ParseBranch(parts[i])
	}
	if err != nil {
		closeDirs(dirs)
	}
	return list, err
}
