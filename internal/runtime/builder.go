package runtime

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Slots of a plan. Most descriptors live for a few steps only.
const (
	slotFS     = iota // file system being configured
	slotMount         // mount being made
	slotTarget        // where it goes
	slotTmp           // anything short
	slotProc          // the prepared trees, between the two parts
	slotDev
	slotSys
	slotDevpts  // the container's, for its terminal
	slotConsole // file for the terminal
	slotListener
	slotCgroup // … and following: the container's directory in each hierarchy
	maxCgroups = spawn.Slots - slotCgroup
)

// SlotListener holds the descriptor of the filter's listener at SyncFilter.
const SlotListener = slotListener

const atCwd = -100 // AT_FDCWD

// builder makes the plan of a container or of an exec, of a spec.
type builder struct {
	*draft
	c    Config
	spec *specs.Spec

	mounts mountTable
	masks  masks
	ns     namespaces

	flags    uint64
	cgroupFD int
	second   *spawn.Plan         // set if the program is started by a second clone
	exec     bool                // in a running container
	dry      bool                // the plan is compared, not run
	kept     []spawn.Arg         // of the descriptors for the second half: where they are
	syncs    []SyncPoint         // those that the plan has
	borrowed []specs.LinuxDevice // nodes of the host that are to be bound
	program  string              // instead of the process's first argument
}

// newBuilder checks the spec and opens what it names; no step exists yet.
func newBuilder(c Config) (_ *builder, err error) {
	if err := check(c); err != nil {
		return nil, err
	}
	b := newPlanBuilder()
	b.c, b.spec = c, c.Spec
	defer b.closeUnless(&err)
	if err := b.openNamespaces(); err != nil {
		return nil, err
	}
	if err := b.openMounts(); err != nil {
		return nil, err
	}
	b.masks, err = openMasks(c, b.mounts)
	return b, err
}

func newPlanBuilder() *builder { return &builder{draft: newDraft(), cgroupFD: -1} }
