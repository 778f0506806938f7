package mnt

import (
	"errors"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/alone"
	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/ledger"
	"github.com/tare-engine/tare/internal/union/server"
	"github.com/tare-engine/tare/internal/union/tree"
)

// Serve is the server process: it has been started by Mount, with the ID and the
// words of Config.Args, and returns when the union is unmounted everywhere. Or it
// takes over from one that was killed.
func Serve(args []string) error {
	if v := os.Getenv(ledgerVar); v != "" {
		return inherit(v)
	}
	if len(args) == 0 {
		return errors.New("serve is started by mount only")
	}
	ready := os.NewFile(fdReady, "ready")
	s, l, err := prepare(args)
	if err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	defer l.Close()
	h, err := newSuccession(args, l)
	if err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	defer h.end()
	if err := control(fdSocket, s, func() { h.leave(args[0]) }); err != nil {
		return err
	}
	if _, err := ready.WriteString("ready"); err != nil {
		return err // whoever wanted the mount is gone, and so is the mount
	}
	ready.Close()
	s.Serve()
	return finish(args[0], s)
}

// finish is when the file system is gone.
func finish(id string, s *server.Server) error {
	s.Close()
	return unlist(id)
}

// unlist removes the socket.
func unlist(id string) error {
	if err := dirat.FD(fdRunDir).Unlink(socketName(id)); err != syscall.ENOENT {
		return err
	}
	return nil
}

func prepare(args []string) (*server.Server, *ledger.Ledger, error) {
	c, err := union.FromArgs(args[1:])
	if err != nil {
		return nil, nil, err
	}
	limit, err := raiseLimit()
	if err != nil {
		return nil, nil, err
	}
	tune()
	if err := confine(); err != nil {
		return nil, nil, err
	}
	l, err := ledger.New(server.Buffer)
	if err != nil {
		return nil, nil, err
	}
	t, err := tree.Open(sources(c.Branches), c.Options, limit)
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	s, err := server.New(t, fdDevice, l, args)
	if err != nil {
		t.Close()
		return nil, nil, errors.Join(err, l.Close())
	}
	return s, l, nil
}

// raiseLimit lets the process have as many descriptors as it may, and says how many
// of them can be directories.
func raiseLimit() (int, error) {
	limit := process.HardLimit(syscall.RLIMIT_NOFILE)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return 0, os.NewSyscallError("setrlimit", err)
	}
	return int(min(limit/2, 1<<16)), nil
}

func tune() {
	syscall.Umask(0)
	// Many small, short-lived objects: a larger heap costs less than collecting.
	debug.SetGCPercent(400)
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

// maxStarts bounds how many processes one after the other take over and do not come
// so far as to serve.
const maxStarts = 20

// inherit is Serve in the process that an heir has executed.
func inherit(v string) error {
	var fd int
	var token uint64
	if _, err := fmt.Sscanf(v, "%d,%d", &fd, &token); err != nil {
		return fmt.Errorf("%s=%s: %w", ledgerVar, v, err)
	}
	l, err := ledger.Open(fd)
	if err != nil {
		return err
	}
	defer l.Close()
	if !l.Chosen(token) {
		return spawn.KillParent(l.Heir(token))
	}
	if l.Starts() > maxStarts {
		err := spawn.KillParent(l.Heir(token))
		return errors.Join(fmt.Errorf("%d processes have taken over, and ended at once", maxStarts), err)
	}
	return takeOver(l, token)
}

// takeOver goes on where a server was killed. The process has the root directory, the
// namespaces and the rights of that one, and its descriptors, of which those that the
// ledger does not know are closed.
func takeOver(l *ledger.Ledger, token uint64) error {
	if err := errors.Join(process.Hide(), alone.Descriptors()); err != nil {
		return err
	}
	r, err := server.Read(l)
	if err != nil {
		return err
	}
	c, err := union.FromArgs(r.Words[1:])
	if err != nil {
		return err
	}
	if err := closeOthers(r.Descriptors(), l.FD()); err != nil {
		return err
	}
	limit, err := raiseLimit()
	if err != nil {
		return err
	}
	tune()
	h, err := newSuccession(r.Words, l)
	if err != nil {
		return err
	}
	defer h.end()
	if err := spawn.KillParent(l.Heir(token)); err != nil {
		return err
	}
	s, err := r.Restore(fdDevice, c.Options, limit)
	if err != nil {
		return err
	}
	if err := control(fdSocket, s, func() { h.leave(r.Words[0]) }); err != nil {
		return err
	}
	l.Settled()
	log.Print("took over from a server that was killed")
	s.Resume(r)
	return finish(r.Words[0], s)
}

// closeOthers closes descriptors that were inherited and are not wanted.
func closeOthers(wanted []dirat.FD, ledger int) error {
	keep := map[int]bool{0: true, 1: true, 2: true, fdDevice: true, fdSocket: true, fdRunDir: true, fdProgram: true, ledger: true}
	for _, fd := range wanted {
		keep[int(fd)] = true
	}
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err == nil && !keep[fd] && dirat.FD(fd).Inherited() {
			syscall.Close(fd)
		}
	}
	return nil
}
