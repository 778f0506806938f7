package mnt

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/alone"
	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/server"
	"github.com/tare-engine/tare/internal/union/tree"
)

// Serve is the server process: it has been started by Mount, with the ID and the
// words of Config.Args, and returns when the union is unmounted everywhere.
func Serve(args []string) error {
	ready := os.NewFile(fdReady, "ready")
	s, socket, err := prepare(args)
	if err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	go control(socket, s)
	if _, err := ready.WriteString("ready"); err != nil {
		return err // whoever wanted the mount is gone, and so is the mount
	}
	ready.Close()
	s.Serve()
	return dirat.FD(fdRunDir).Unlink(socketName(args[0]))
}

func prepare(args []string) (*server.Server, *os.File, error) {
	if len(args) == 0 {
		return nil, nil, errors.New("serve is started by mount only")
	}
	c, err := union.FromArgs(args[1:])
	if err != nil {
		return nil, nil, err
	}
	for fd := fdDevice; fd < fdBranches; fd++ {
		syscall.CloseOnExec(fd)
	}
	limit := process.HardLimit(syscall.RLIMIT_NOFILE)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return nil, nil, os.NewSyscallError("setrlimit", err)
	}
	syscall.Umask(0)
	// Many small, short-lived objects: a larger heap costs less than collecting.
	debug.SetGCPercent(400)
	if err := confine(); err != nil {
		return nil, nil, err
	}
	t, err := tree.Open(sources(c.Branches), c.Options, int(min(limit/2, 1<<16)))
	if err != nil {
		return nil, nil, err
	}
	s, err := server.New(t, os.NewFile(fdDevice, "/dev/fuse"))
	if err != nil {
		t.Close()
		return nil, nil, err
	}
	return s, os.NewFile(fdSocket, "socket"), nil
}

// confine leaves the process what a union needs: owners, modes and devices of
// files that belong to anybody, and the right to hand files to the kernel.
func confine() error {
	if err := process.Hide(); err != nil {
		return err
	}
	if err := alone.Root(); err != nil {
		return err
	}
	return alone.Capabilities(alone.Chown, alone.DACOverride, alone.FOwner, alone.FSetID, alone.Mknod, alone.SetFCap, alone.SysAdmin)
}

func sources(list []union.Branch) []tree.Source {
	out := make([]tree.Source, len(list))
	for i, b := range list {
		syscall.CloseOnExec(fdBranches + i)
		out[i] = tree.Source{Branch: b, Root: dirat.FD(fdBranches + i)}
	}
	return out
}
