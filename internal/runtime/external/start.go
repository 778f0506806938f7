package external

import (
	"os"
	"path/filepath"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Start is a process that is ready to be started by the runtime: what the keeper
// executes (keeper.Start with Runtime).
type Start struct {
	Plan   spawn.Image
	Second spawn.Image // OCI "start"; an exec has none
	FDs    []*os.File  // spawn.FD(0) …

	c     *Container
	exec  string         // the exec's ID
	own   []*os.File     // of FDs
	plans [2]*spawn.Plan // say what a step is
}

// Close gives back what the start had opened, and removes what an exec has
// needed.
func (s *Start) Close() {
	for _, f := range s.own {
		f.Close()
	}
	if s.exec == "" {
		return
	}
	for _, name := range []string{"process.json", "log.json", "stderr"} {
		os.Remove(s.file(name))
	}
}

// file is a file of the bundle, of an exec one of its own.
func (s *Start) file(name string) string {
	if s.exec != "" {
		name = "exec-" + s.exec + "-" + name
	}
	return s.c.path(name)
}

// Descriptors of the plans, in the order of FDs.
const (
	fdMounts = iota // the engine's mount namespace
	fdStderr        // for what is no process of the container
	fdRoot
)

// Start writes the spec and makes the plans of "create" and "start". root is a
// detached mount and stays the caller's.
func (c *Container) Start(spec *specs.Spec, root *os.File) (_ *Start, err error) {
	plain := *spec
	plain.Version = specVersion
	if err := c.write("config.json", &plain); err != nil {
		return nil, err
	}
	s := &Start{c: c}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.open(); err != nil {
		return nil, err
	}
	s.FDs = append(s.FDs, root)
	on, err := c.home.mountOf()
	if err != nil {
		return nil, err
	}
	tty := spec.Process.Terminal
	args := append([]string{"create", "--bundle", c.path()}, c.leaves(c.ID, tty)...)
	openHome := func(*spawn.Plan) {}
	if mapped(spec) {
		if openHome, err = c.openHome(); err != nil {
			return nil, err
		}
	}
	create := s.plan(tty, append(args, c.ID), func(p *spawn.Plan) {
		c.privateMounts(p, on)
		openHome(p)
		p.Do("mount root", spawn.SysMoveMount, spawn.FD(fdRoot), p.Str(""), spawn.Int(atCwd), p.Str(c.path("rootfs")), spawn.Int(mount.MoveFromFD))
	})
	begin := s.plan(true, []string{"start", c.ID}, nil)
	s.Plan, s.Second, s.plans = create.Image(), begin.Image(), [2]*spawn.Plan{create, begin}
	return s, nil
}

// Exec makes the plan of an exec. id is the exec's.
func (c *Container) Exec(id string, process *specs.Process) (*Start, error) {
	s := &Start{c: c, exec: id}
	err := c.write(filepath.Base(s.file("process.json")), process)
	if err == nil {
		err = s.open()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	args := append([]string{"exec", "--process", s.file("process.json"), "--detach"}, c.leaves(id, process.Terminal)...)
	plan := s.plan(process.Terminal, append(args, c.ID), nil)
	s.Plan, s.plans[0] = plan.Image(), plan
	return s, nil
}

// specVersion is what older runtimes know as well: crun 1.8 refuses a spec that
// is not of 1.0. All that came later is optional.
const specVersion = "1.0.2"

// open opens what all plans need.
func (s *Start) open() error {
	for _, f := range []struct {
		path string
		flag int
	}{
		{"/proc/self/ns/mnt", os.O_RDONLY},
		{s.file("stderr"), os.O_WRONLY | os.O_CREATE | os.O_APPEND},
	} {
		file, err := os.OpenFile(f.path, f.flag, 0o600)
		if err != nil {
			return err
		}
		s.FDs, s.own = append(s.FDs, file), append(s.own, file)
	}
	return nil
}

// leaves are the options by which a runtime leaves a process to the keeper.
func (c *Container) leaves(id string, tty bool) []string {
	live := filepath.Join(string(c.home), "live", id)
	args := []string{"--pid-file", filepath.Join(live, wire.RuntimePid)}
	if !tty {
		return args
	}
	socket := filepath.Join(live, wire.RuntimeConsole)
	if len(socket) >= maxSocketPath { // the runtime works in the bundle
		socket = filepath.Join("../../live", id, wire.RuntimeConsole)
	}
	return append(args, "--console-socket", socket)
}

// maxSocketPath is the room for a socket's path, with its end.
const maxSocketPath = 108

// command is the runtime's command line. Errors go to the file log.
func (c *Container) command(log string, args []string) []string {
	argv := append([]string{c.Runtime.Path}, c.Runtime.Args...)
	argv = append(argv, "--root", c.state(), "--log", log, "--log-format", "json")
	return append(argv, args...)
}

// plan executes a command of the runtime among the engine's mounts. mute: its
// stderr is not the process's.
func (s *Start) plan(mute bool, args []string, mounts func(*spawn.Plan)) *spawn.Plan {
	p := spawn.NewPlan()
	p.Do("join the engine's mounts", spawn.SysSetns, spawn.FD(fdMounts), spawn.Int(syscall.CLONE_NEWNS))
	p.Do("umask", spawn.SysUmask, spawn.Int(0o022))
	if mounts != nil {
		mounts(p)
	}
	p.Do("go to the bundle", spawn.SysChdir, p.Str(s.c.path()))
	p.Stdio()
	if mute {
		p.Do("stderr", spawn.SysDup3, spawn.FD(fdStderr), spawn.Int(2), spawn.Nil)
	}
	p.Do("new session", spawn.SysSetsid)
	p.ResetSignals()
	p.CloseOnExec()
	argv := s.c.command(s.file("log.json"), args)
	p.Exec(argv[0], searchPath(), argv, environment())
	return p
}

// privateMounts makes a namespace for the root's mount that ends with the
// runtime's program and the container. The mount below it passes nothing on to
// its peers; all others do, as the container's volumes may want it.
func (c *Container) privateMounts(p *spawn.Plan, on string) {
	p.Do("own mounts", spawn.SysUnshare, spawn.Int(syscall.CLONE_NEWNS))
	p.Do("keep mounts from the host", spawn.SysMount, spawn.Nil, p.Str(on), spawn.Nil, spawn.Int(syscall.MS_PRIVATE), spawn.Nil)
}

const atCwd = -100 // AT_FDCWD

// searchPath is where programs are looked for.
func searchPath() string {
	if p := os.Getenv("PATH"); p != "" {
		return p
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// environment is the runtime's own: nothing of the engine's but where programs are.
func environment() []string { return []string{"PATH=" + searchPath()} }
