package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/runtime"
)

// notifies reports whether the filter asks an agent about some calls.
func notifies(s *specs.LinuxSeccomp) bool {
	return s != nil && slices.ContainsFunc(s.Syscalls, func(c specs.LinuxSyscall) bool { return c.Action == specs.ActNotify })
}

// checkListener refuses filters whose questions would stop the start itself.
func checkListener(s *specs.LinuxSeccomp) error {
	switch {
	case s == nil:
		return nil
	case s.DefaultAction == specs.ActNotify:
		return errors.New("SCMP_ACT_NOTIFY cannot be used as default action")
	case notifies(s) && s.ListenerPath == "":
		return errors.New("SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath")
	}
	for _, c := range s.Syscalls {
		if c.Action == specs.ActNotify && slices.Contains(c.Names, "write") {
			return errors.New("SCMP_ACT_NOTIFY cannot be used for the write syscall")
		}
	}
	return nil
}

// sendListener takes the listener of the child's filter and hands it to the
// agent, with the state that the specification describes. From then on the
// agent answers for the child.
func (c *Container) sendListener(pid, fd int, s *specs.LinuxSeccomp, status Status) error {
	pidfd, err := process.Open(pid)
	if err != nil {
		return err
	}
	defer pidfd.Close()
	listener, err := process.TakeFD(pidfd, fd)
	if err != nil {
		return err
	}
	defer listener.Close()
	spec, err := c.Spec()
	if err != nil {
		return err
	}
	b, err := json.Marshal(&specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid, Metadata: s.ListenerMetadata,
		State: specs.State{Version: specs.Version, ID: c.ID, Status: specs.ContainerState(status), Pid: pid, Bundle: c.Bundle, Annotations: spec.Annotations},
	})
	if err != nil {
		return err
	}
	sock, err := dial(s.ListenerPath)
	if err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath: %w", err)
	}
	defer sock.Close()
	return os.NewSyscallError("sendmsg", syscall.Sendmsg(int(sock.Fd()), b, syscall.UnixRights(int(listener.Fd())), nil, syscall.MSG_NOSIGNAL))
}

// filtered hands the listener of the first process to the agent.
func (k *creation) filtered() error {
	return k.c.sendListener(k.child.first, k.child.slab.Slot(runtime.SlotListener), k.b.spec.Linux.Seccomp, Creating)
}
