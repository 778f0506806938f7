package runtime

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/caps"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/seccomp"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// process adds what makes the child the user's program. From the seccomp
// filter on only calls are made that a filter must allow any program start.
func (b *builder) process() error {
	p := b.spec.Process
	b.stdio(p)
	if b.second == nil {
		session(b.Plan, p)
	}
	if err := b.attributes(p, b.spec.Linux.Seccomp); err != nil {
		return err
	}
	b.finish()
	return nil
}

// stdio puts the process's streams on 0 to 2.
func (b *builder) stdio(p *specs.Process) {
	if !p.Terminal {
		b.Stdio()
		return
	}
	b.Do("devpts", spawn.SysOpenat2, spawn.Int(atCwd), b.Str("/dev/pts"), b.exact, spawn.Int(inroot.HowSize)).To(slotDevpts)
	if b.exec {
		b.Terminal(b.terminal(p, spawn.Nil)) // the console is init's
		return
	}
	b.target("/dev")
	b.Do("make /dev/console", spawn.SysMknodat, spawn.Slot(slotTarget), b.Str("console"), spawn.Int(syscall.S_IFREG|0600), spawn.Nil).Ignore(int(syscall.EEXIST))
	b.close(slotTarget)
	b.Do("console", spawn.SysOpenat2, spawn.Int(atCwd), b.Str("/dev/console"), b.exact, spawn.Int(inroot.HowSize)).To(slotConsole)
	b.Terminal(b.terminal(p, spawn.Slot(slotConsole)))
}

func (b *builder) terminal(p *specs.Process, console spawn.Arg) spawn.TerminalOptions {
	o := spawn.TerminalOptions{Devpts: spawn.Slot(slotDevpts), Console: console, UID: int(p.User.UID), Rows: b.c.Rows, Cols: b.c.Cols}
	if o.Rows == 0 && p.ConsoleSize != nil {
		o.Rows, o.Cols = uint16(p.ConsoleSize.Height), uint16(p.ConsoleSize.Width)
	}
	return o
}

// session makes the process the leader of a new session.
func session(plan *spawn.Plan, p *specs.Process) {
	if p.Terminal {
		plan.ControllingTTY()
		return
	}
	plan.Do("new session", spawn.SysSetsid)
}

// processSteps adds what makes a child a process of the spec, step by step: what
// it may use, who it is, what it may do.
type processSteps struct {
	*draft
	p *specs.Process
}

func (b *builder) steps() processSteps { return processSteps{b.draft, b.spec.Process} }

// attributes adds limits, directory, ids, capabilities and filter.
func (b *builder) attributes(p *specs.Process, filter *specs.LinuxSeccomp) error {
	steps := b.steps()
	steps.chdir()
	if err := steps.rlimits(p.Rlimits); err != nil {
		return err
	}
	umask := uint32(022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	b.Do("umask", spawn.SysUmask, spawn.Int(umask))
	if err := steps.label(); err != nil {
		return err
	}
	b.lastDescriptors() // before the filter, which may know nothing of it
	// Without no_new_privs a filter needs CAP_SYS_ADMIN, so it goes in before
	// the capabilities go; with it, it goes in last.
	if !p.NoNewPrivileges {
		if err := b.filter(filter); err != nil {
			return err
		}
	}
	if err := steps.identity(); err != nil {
		return err
	}
	if p.NoNewPrivileges {
		b.Do("no new privileges", spawn.SysPrctl, spawn.Int(caps.NoNewPrivs), spawn.Int(1), spawn.Nil, spawn.Nil, spawn.Nil)
		return b.filter(filter)
	}
	return nil
}

// chdir goes to the working directory, which the kernel keeps inside the root:
// links of procfs to open files are refused (CVE-2024-21626).
func (s processSteps) chdir() {
	s.mark(mark{kind: markCwd, object: s.p.Cwd})
	how := s.Words(spawn.Int(inroot.OPath|inroot.ODirectory|inroot.OCloexec), spawn.Nil, spawn.Int(inroot.ResolveInRoot|inroot.ResolveNoMagic))
	s.Do("open working directory", spawn.SysOpenat2, spawn.Int(atCwd), s.Str(s.p.Cwd), how, spawn.Int(inroot.HowSize)).To(slotTmp)
	s.Do("working directory", spawn.SysFchdir, spawn.Slot(slotTmp))
	s.close(slotTmp)
	s.mark(mark{})
}

// resources are the numbers of the limits.
var resources = []string{"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"}

// resource returns the number of a limit.
func resource(name string) (int, error) {
	n := slices.Index(resources, strings.TrimPrefix(name, "RLIMIT_"))
	if n < 0 {
		return 0, invalid("process.rlimits: unknown type %q", name)
	}
	return n, nil
}

func (s processSteps) rlimits(list []specs.POSIXRlimit) error {
	for _, r := range list {
		n, err := resource(r.Type)
		if err != nil {
			return err
		}
		s.mark(mark{kind: markRlimit, object: r.Type})
		s.Do("limit "+r.Type, spawn.SysPrlimit64, spawn.Nil, spawn.Int(n), s.Words(spawn.Int(r.Soft), spawn.Int(r.Hard)), spawn.Nil)
	}
	s.mark(mark{})
	return nil
}

// oomScore sets the process's badness, which would else be the keeper's.
func (s processSteps) oomScore(procfs spawn.Arg) {
	score := 0
	if s.p.OOMScoreAdj != nil {
		score = *s.p.OOMScoreAdj
	}
	s.write("oom_score_adj", procfs, "self/oom_score_adj", strconv.Itoa(score))
}

// keyring gives the process a session keyring of its own. It is anonymous: a
// name could be taken by another container first.
func (s processSteps) keyring() {
	const joinSessionKeyring = 1
	s.Do("session keyring", spawn.SysKeyctl, spawn.Int(joinSessionKeyring), spawn.Nil).Ignore(int(syscall.ENOSYS))
}

// label sets the AppArmor profile that the execve switches to.
func (s processSteps) label() error {
	if s.p.ApparmorProfile == "" {
		return nil
	}
	dir, err := s.privateProc()
	if err != nil {
		return err
	}
	s.mark(mark{kind: markLabel, object: s.p.ApparmorProfile})
	s.write("apparmor profile", dir, "self/attr/apparmor/exec", "exec "+s.p.ApparmorProfile)
	s.mark(mark{})
	return nil
}

func (b *builder) filter(s *specs.LinuxSeccomp) error {
	if s == nil {
		return nil
	}
	program, err := seccomp.Compile(s)
	if err != nil {
		return invalid("linux.seccomp: %w", err)
	}
	flags, err := filterFlags(s)
	if err != nil {
		return err
	}
	const setModeFilter, instruction, newListener = 1, 8, 8
	listens := s.ListenerPath != ""
	if listens {
		flags |= newListener
	}
	prog := b.Words(spawn.Int(len(program)/instruction), b.Bytes(program))
	b.Do("seccomp", spawn.SysSeccomp, spawn.Int(setModeFilter), spawn.Int(flags), prog).To(slotListener)
	if listens {
		b.sync(SyncFilter)
	}
	return nil
}

// filterFlags translates the spec's flags. Without any, speculation stays
// allowed, as the kernel itself does since 5.16.
func filterFlags(s *specs.LinuxSeccomp) (uint64, error) {
	const tsync, log, specAllow, waitKillable = 1, 2, 4, 32
	if s.Flags == nil {
		return specAllow, nil
	}
	var out uint64
	for _, f := range s.Flags {
		switch f {
		case specs.LinuxSeccompFlagLog:
			out |= log
		case specs.LinuxSeccompFlagSpecAllow:
			out |= specAllow
		case specs.LinuxSeccompFlagWaitKillableRecv: // kernel 5.19
			if s.ListenerPath == "" {
				return 0, invalid("linux.seccomp.flags: %s needs a listenerPath", f)
			}
			out |= waitKillable
		case "SECCOMP_FILTER_FLAG_TSYNC":
			out |= tsync
		default:
			return 0, unsupported("linux.seccomp.flags: " + string(f))
		}
	}
	return out, nil
}

// capSets are the capabilities of a process as the kernel takes them.
type capSets struct {
	bounding, effective, permitted, inheritable, ambient caps.Set
}

func capSetsOf(c *specs.LinuxCapabilities) (s capSets, err error) {
	if c == nil {
		return s, nil
	}
	for _, x := range []struct {
		to   *caps.Set
		list []string
	}{{&s.bounding, c.Bounding}, {&s.effective, c.Effective}, {&s.permitted, c.Permitted}, {&s.inheritable, c.Inheritable}, {&s.ambient, c.Ambient}} {
		if *x.to, err = caps.Of(x.list); err != nil {
			return s, invalid("process.capabilities: %w", err)
		}
		*x.to &= caps.Available() // "all" means all that there are here
	}
	return s, nil
}

func prctl(d *draft, name string, args ...int) *spawn.Step {
	words := make([]spawn.Arg, 5)
	for i, a := range args {
		words[i] = spawn.Int(a)
	}
	return d.Do(name, spawn.SysPrctl, words...)
}

// dropBounding takes away for good what the process shall never have.
func (s processSteps) dropBounding() error {
	sets, err := capSetsOf(s.p.Capabilities)
	if err != nil {
		return err
	}
	for i := range caps.Last() + 1 {
		if sets.bounding&(1<<i) == 0 {
			prctl(s.draft, "drop capability", caps.DropBounding, i)
		}
	}
	return nil
}

// identity adds user, groups and the other capability sets. The permitted set
// survives the change of the user until capset says what stays.
func (s processSteps) identity() error {
	sets, err := capSetsOf(s.p.Capabilities)
	if err != nil {
		return err
	}
	prctl(s.draft, "keep capabilities", caps.KeepCaps, 1)
	groups := make([]byte, 0, 4*len(s.p.User.AdditionalGids)+4)
	for _, g := range s.p.User.AdditionalGids {
		groups = binary.LittleEndian.AppendUint32(groups, g)
	}
	uid, gid := spawn.Int(s.p.User.UID), spawn.Int(s.p.User.GID)
	s.mark(mark{kind: markUser})
	s.Do("groups", spawn.SysSetgroups, spawn.Int(len(s.p.User.AdditionalGids)), s.Bytes(append(groups, 0, 0, 0, 0)))
	s.Do("group", spawn.SysSetresgid, gid, gid, gid)
	s.Do("user", spawn.SysSetresuid, uid, uid, uid)
	s.mark(mark{kind: markCaps})
	prctl(s.draft, "keep capabilities no longer", caps.KeepCaps, 0)
	s.Do("capabilities", spawn.SysCapset, s.Bytes(caps.Header()), s.Bytes(caps.Data(sets.effective, sets.permitted, sets.inheritable)))
	prctl(s.draft, "clear ambient capabilities", caps.Ambient, caps.AmbientClear)
	for i := range caps.Last() + 1 {
		if sets.ambient&(1<<i) != 0 {
			// What is not inheritable cannot be ambient; runc leaves it out too.
			prctl(s.draft, "ambient capability", caps.Ambient, caps.AmbientRaise, i).Ignore(int(syscall.EPERM))
		}
	}
	s.mark(mark{})
	return nil
}

// defaultPath is what execve's search uses if the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// execute ends a plan with the user's program: the first argument, unless
// another is named.
func execute(plan *spawn.Plan, p *specs.Process, program string) {
	if program == "" {
		program = p.Args[0]
	}
	plan.Exec(program, SearchPath(p.Env), p.Args, p.Env)
}

// SearchPath is where an execve of a bare name looks.
func SearchPath(env []string) string {
	search := defaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	return search
}
