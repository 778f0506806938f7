package runtime

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Config says what is to be started. The files stay the caller's and must stay
// open until the start is over.
type Config struct {
	ID   string
	Spec *specs.Spec
	Root *os.File // detached mount of the root; missing mount points are made in it

	NetNS       *os.File // network namespace to join; nil: as the spec says
	CgroupProcs []string // files of the cgroups to which the child writes "0" to enter
	CgroupFD    *os.File // cgroup v2 directory in which the child is born; nil: none

	InUserNS bool // the child is born in the user namespace that the spec names; the spec's maps are that one's

	Rows, Cols uint16 // of the terminal, if the process has one

	Waiting
	RootPath  string // where the root is while hooks run (SyncHooks)
	NoPivot   bool   // change the root by chroot: "/" is a ramdisk, which pivot_root refuses
	NoKeyring bool   // keep the caller's session keyring
}

// Start is a process that is ready to be started. It owns the descriptors that
// were opened for it.
type Start struct {
	Plan       *spawn.Plan // for printing; Image is what travels
	Image      spawn.Image
	Second     spawn.Image // set if the start joins a PID namespace: see [spawn.Plan.CloneSecond]
	Flags      uint64      // CLONE_NEW…
	FDs        []*os.File  // spawn.FD(0), FD(1) …
	CgroupFD   int         // index in FDs, -1: none
	SyncPoints []SyncPoint // in order
	UserNS     bool        // the container is in a user namespace: a new one, or one that it joins

	explainer
	own    []*os.File
	mapped bool // the user namespace has its maps
}

// Close gives back what the start had opened.
func (s *Start) Close() {
	for _, f := range s.own {
		f.Close()
	}
	s.own = nil
}

// NewStart opens and checks all that the spec names and builds the plan.
func NewStart(c Config) (_ *Start, err error) {
	b, err := newBuilder(c)
	if err != nil {
		return nil, err
	}
	defer b.closeUnless(&err)
	if err := b.prepare(); err != nil {
		return nil, err
	}
	if err := b.adopt(); err != nil {
		return nil, err
	}
	return b.start(), nil
}

func (b *builder) start() *Start {
	s := &Start{Plan: b.Plan, Image: b.Image(), Flags: b.flags, FDs: b.fds, CgroupFD: b.cgroupFD, SyncPoints: b.syncs, own: b.own}
	s.explainer = explainer{first: b.marks, process: b.spec.Process, root: b.c.Root, prefix: createFailed, names: b.StepName}
	if s.UserNS = b.inUserNS(); s.UserNS {
		s.mapped = b.ns.born
		s.uids, s.gids = b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings
	}
	if b.second != nil {
		s.Second = b.second.Image()
	}
	return s
}
