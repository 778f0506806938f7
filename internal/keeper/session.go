package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
)

// sendTimeout is how long an engine may leave its socket full before it is cut
// off; it asks for the list when it comes back.
const sendTimeout = 5 * time.Second

// session is the connection to one engine.
type session struct {
	*wire
	engine string
	events chan *message
	gone   chan struct{}
	once   sync.Once

	requests sync.WaitGroup // being served
	before   *session       // whose requests may still be
}

// settle waits until no request of an earlier engine is being served.
func (s *session) settle() {
	if s.before != nil {
		within(upgradeWait, s.before.requests.Wait)
	}
}

func newSession(w *wire) *session {
	return &session{wire: w, events: make(chan *message, 4096), gone: make(chan struct{})}
}

func (s *session) close() {
	s.once.Do(func() {
		close(s.gone)
		s.wire.close()
	})
}

// queue leaves an event for sendEvents. It never blocks.
func (s *session) queue(o op, doc any) { s.queueFor(0, o, doc) }

// queueFor is queue for an event that belongs to a request.
func (s *session) queueFor(request uint64, o op, doc any) {
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // our own types
	}
	select {
	case s.events <- &message{op: o, request: request, doc: b}:
	default:
		s.close()
	}
}

// sendEvents sends what was queued until the session closes.
func (s *session) sendEvents() {
	for {
		select {
		case m := <-s.events:
			if s.deliver(m) != nil {
				s.close()
				return
			}
		case <-s.gone:
			return
		}
	}
}

func (s *session) deliver(m *message) error {
	if err := s.c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return s.send(m)
}

// reply answers a request. The files stay the caller's.
func (s *session) reply(request uint64, doc any, files []*os.File) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if err := s.deliver(&message{op: opReply, request: request, doc: b, files: files}); err != nil {
		s.close()
		return err
	}
	return nil
}

// listen binds the socket so that nobody but root can ever connect.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	dir, short, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: short, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// shortPath is another path of the same file for as long as dir is open: a
// socket's address has room for 107 bytes only.
func shortPath(path string) (dir *os.File, short string, err error) {
	dir, err = os.Open(filepath.Dir(path))
	if err != nil {
		return nil, "", err
	}
	n, err := descriptor(dir)
	if err != nil {
		return nil, "", errors.Join(err, dir.Close())
	}
	return dir, "/proc/self/fd/" + strconv.Itoa(n) + "/" + filepath.Base(path), nil
}

// checkClient accepts connected unix stream sockets only.
func checkClient(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for _, o := range []struct{ name, want int }{
		{syscall.SO_DOMAIN, syscall.AF_UNIX}, {syscall.SO_TYPE, syscall.SOCK_STREAM}, {syscall.SO_ACCEPTCONN, 0},
	} {
		got := -1
		if err := raw.Control(func(fd uintptr) { got, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, o.name) }); err != nil {
			return err
		}
		if got != o.want {
			return errdefs.New(errdefs.InvalidArgument, "client is not a connected unix stream socket")
		}
	}
	return nil
}

// checkPeer lets in only our own user from our own PID and user namespace: a
// container that got hold of the socket would be root of the host.
func (k *Keeper) checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("peer's user is %d", cred.Uid)
	}
	if cred.Pid <= 0 {
		return errors.New("peer is in a PID namespace above ours")
	}
	for _, ns := range []string{"pid", "user"} {
		ours, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			return err
		}
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", cred.Pid, ns))
		if err != nil {
			return err
		}
		if ours != theirs {
			return fmt.Errorf("peer %d is in another %s namespace", cred.Pid, ns)
		}
	}
	return k.checkGroup(int(cred.Pid))
}

// checkGroup refuses processes of our containers: one that shares the host's
// PID namespace is told by its control groups, which it cannot leave.
func (k *Keeper) checkGroup(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for part := range strings.FieldsFuncSeq(string(b), func(r rune) bool { return r == '/' || r == '\n' }) {
		if k.children[part] != nil {
			return fmt.Errorf("peer %d is a process of container %s", pid, part)
		}
	}
	return nil
}
