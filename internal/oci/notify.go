package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/process"
)

// A caller that is told of readiness (sd_notify(3)) has a socket, whose address
// is in NOTIFY_SOCKET. The container never gets that one: it has a socket of
// its own, in a directory of its own, and of what it sends READY=1 is passed on.
const (
	notifyEnv    = "NOTIFY_SOCKET"
	notifyDir    = "notify"      // below the container's directory
	notifyInside = "/run/notify" // the same in the container
	notifyFile   = "notify.sock"

	ready = "READY=1"
)

// makeNotifyDir makes the directory of the container's socket.
func (c *Container) makeNotifyDir() error {
	if err := os.Mkdir(c.file(notifyDir), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Chmod(c.file(notifyDir), 0o755) // whatever the umask is
}

// withNotify adds the container's socket to its spec.
func withNotify(s *specs.Spec, dir string) {
	s.Mounts = append(slices.Clip(s.Mounts), specs.Mount{
		Destination: notifyInside, Type: "bind", Source: dir, Options: []string{"bind", "ro", "nosuid", "noexec", "nodev"},
	})
	p := s.Process
	env := slices.DeleteFunc(slices.Clone(p.Env), func(v string) bool { return strings.HasPrefix(v, notifyEnv+"=") })
	p.Env = append(env, notifyEnv+"="+notifyInside+"/"+notifyFile)
}

// Readiness is a container's socket while somebody listens on it for the caller.
type Readiness struct {
	sock *os.File
	to   string // the caller's address
	c    *Container
}

// listen makes the container's socket, before its program runs. It is nil if
// to, the caller's address, is empty, or if the container was created without.
func (c *Container) listen(to string) (*Readiness, error) {
	if to == "" {
		return nil, nil
	}
	dir, err := os.OpenFile(c.file(notifyDir), syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	r := &Readiness{sock: os.NewFile(uintptr(fd), notifyFile), to: to, c: c}
	name := "/proc/self/fd/" + itoa(int(dir.Fd())) + "/" + notifyFile // fits into an address, whatever the root is
	_ = os.Remove(name)                                               // of a starter that was killed before the program ran
	err = os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrUnix{Name: name}))
	if err == nil {
		err = os.Chmod(name, 0o777) // whoever the container's users are
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("%s of the container: %w", notifyEnv, err)
	}
	return r, nil
}

// Close lets the container speak to nobody.
func (r *Readiness) Close() {
	if r != nil {
		r.sock.Close()
	}
}

// Forward waits until the container is ready or has ended, and tells the
// caller of the former, with main as the pid to watch from then on; 0 is the
// container's own.
func (r *Readiness) Forward(main int) error {
	if r == nil {
		return nil
	}
	if main == 0 {
		main = r.c.Pid
	}
	said, err := r.await()
	if err != nil || !said {
		return err
	}
	r.c.root.debug("container %s: is ready", r.c.ID)
	if err := tell(r.to, ready+"\nMAINPID="+strconv.Itoa(main)); err != nil {
		return fmt.Errorf("%s: %w", notifyEnv, err)
	}
	return nil
}

// await reports whether the container has said that it is ready, before its end.
func (r *Readiness) await() (bool, error) {
	pidfd, err := r.c.open()
	if errors.Is(err, os.ErrProcessDone) {
		return r.said(), nil // as the last thing it did
	}
	if err != nil {
		return false, err
	}
	defer pidfd.Close()
	for {
		ended, err := process.Poll(r.sock, []*os.File{pidfd}, false, -1)
		if err != nil {
			return false, err
		}
		if said := r.said(); said || len(ended) > 0 {
			return said, nil
		}
	}
}

// said takes all messages that are there and looks for readiness.
func (r *Readiness) said() bool {
	var b [4096]byte
	for {
		n, _, err := syscall.Recvfrom(int(r.sock.Fd()), b[:], syscall.MSG_DONTWAIT)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		if slices.ContainsFunc(bytes.Split(b[:n], []byte("\n")), func(line []byte) bool { return string(line) == ready }) {
			return true
		}
	}
}

// barrierTime is how long the caller may take to read, in milliseconds.
const barrierTime = 30_000

// tell sends a message to a notification socket and waits until it was read:
// its reader looks for the sender, who may be gone soon. That it was is known
// when the descriptor sent after it is closed (sd_notify_barrier(3)).
func tell(to, message string) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)
	addr := &syscall.SockaddrUnix{Name: to} // "@name" is an abstract one
	if err := syscall.Sendmsg(fd, []byte(message), nil, addr, syscall.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("send to %s: %w", to, err)
	}
	r, w, err := pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = syscall.Sendmsg(fd, []byte("BARRIER=1"), syscall.UnixRights(int(w.Fd())), addr, syscall.MSG_NOSIGNAL)
	w.Close()
	if err != nil {
		return nil // who has closed the socket by now has read
	}
	_, err = process.Poll(r, nil, false, barrierTime)
	return err
}
