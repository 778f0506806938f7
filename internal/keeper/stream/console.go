package stream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/unixconn"
)

// listenForTerminal makes the socket to which an OCI runtime sends the master
// of the terminal that it makes (--console-socket).
func (t *set) listenForTerminal() error {
	path := t.path(wire.RuntimeConsole)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	dir, short, err := wire.ShortPath(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if t.sock, err = unixconn.Listen(short); err != nil {
		return err
	}
	for i := range t.child {
		if err := t.childEnd(i, rawfd.Null); err != nil {
			return err
		}
	}
	return nil
}

// receiveMaster takes the terminal's master from our end of the child's socket
// pair, or from the runtime's connection: it has ended by now, and what it sent
// waits.
func (t *set) receiveMaster() (int, error) {
	if !t.stdio.Console {
		return unixconn.ReceiveFD(t.sock)
	}
	c, err := unixconn.Accept(t.sock)
	if err != nil {
		return -1, fmt.Errorf("the runtime has sent no terminal: %w", err)
	}
	fd, err := unixconn.ReceiveFD(c)
	return fd, errors.Join(err, rawfd.Close(c))
}

// Stderr returns the beginning of what waits in a process's stderr, before the
// streams have begun: an OCI runtime that fails writes there why.
func (s *Streams) Stderr(id string) string {
	t, err := s.set(id)
	if err != nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started || t.out[1] == nil {
		return ""
	}
	b := make([]byte, stderrKept)
	n, err := rawfd.Read(t.out[1].fd, b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// stderrKept is how much of a runtime's last words is passed on.
const stderrKept = 4 << 10
