package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// checkPeer lets in only our own user from our own PID and user namespace: a
// container that got hold of the socket would be root of the host.
func (l *children) checkPeer(c *net.UnixConn) error {
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
	return l.checkGroup(int(cred.Pid))
}

// checkGroup refuses processes of our containers: one that shares the host's
// PID namespace is told by its control groups, which it cannot leave.
func (l *children) checkGroup(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for part := range strings.FieldsFuncSeq(string(b), func(r rune) bool { return r == '/' || r == '\n' }) {
		if l.byID[part] != nil {
			return fmt.Errorf("peer %d is a process of container %s", pid, part)
		}
	}
	return nil
}
