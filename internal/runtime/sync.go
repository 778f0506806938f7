package runtime

import (
	"errors"
	"os"
	"slices"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/spawn"
)

// SyncPoint is a place where a plan waits for its starter.
type SyncPoint int

// Sync points, in the order in which a plan comes to them.
const (
	// SyncBorn: the child is there and has done nothing. Time for id maps,
	// cgroups, network devices: what only others can do for it.
	SyncBorn SyncPoint = iota
	// SyncHooks: everything is mounted at Config.RootPath, which is not "/" yet.
	SyncHooks
	// SyncFilter: the filter is in force, its listener's descriptor in SlotListener.
	SyncFilter
	// SyncReady: nothing is left but the execve.
	SyncReady
)

func (s SyncPoint) String() string { return [...]string{"born", "hooks", "filter", "ready"}[s] }

// Gate are a child's ends of two pipes: at a sync point it writes a byte to Out and
// waits for one on In. End of file there ends it.
type Gate struct{ Out, In *os.File }

// Waiting says how a plan waits, beside its sync points, before it becomes the
// user's program, and what else it takes along.
type Waiting struct {
	Gate       *Gate
	SyncPoints []SyncPoint // the wanted ones
	Start      *os.File    // FIFO, open for reading and writing, of which a byte is read last; nil: none

	Preserve []*os.File // become the program's descriptors 3, 4, 5 …
}

// sync adds a sync point, if it is wanted.
func (b *builder) sync(s SyncPoint) {
	if b.c.Gate == nil || !slices.Contains(b.c.SyncPoints, s) {
		return
	}
	b.syncs = append(b.syncs, s)
	if b.kept != nil {
		b.Gate(b.kept[0], b.kept[1])
		return
	}
	b.Gate(b.pass(b.c.Gate.Out), b.pass(b.c.Gate.In))
}

// lastDescriptors makes the execve close all descriptors; of a pair the first
// half closes them now.
func (b *builder) lastDescriptors() {
	if b.second != nil {
		b.kept = b.KeepForSecond(b.passAll(b.lastFiles())...)
		return
	}
	b.CloseOnExec()
}

func (b *builder) wantsReady() bool {
	return b.c.Gate != nil && slices.Contains(b.c.SyncPoints, SyncReady)
}

// finish ends the plan: a second clone, if one is needed, the last sync point and
// the execve.
func (b *builder) finish() {
	last := b.Plan
	if b.second != nil {
		last = b.second
		b.CloneKept()
		session(last, b.spec.Process)
		b.lastSteps(last, spawn.CommandFD, b.kept)
	} else {
		b.lastSteps(last, spawn.ReportFD, b.passAll(b.lastFiles()))
	}
	b.mark(mark{kind: markExec})
	execute(last, b.spec.Process, b.program)
}

// lastFiles are the descriptors of the last steps, in the order in which the
// child receives them.
func (b *builder) lastFiles() []*os.File {
	var out []*os.File
	if b.c.Gate != nil {
		out = append(out, b.c.Gate.Out, b.c.Gate.In)
	}
	if b.c.Start != nil {
		out = append(out, b.c.Start)
	}
	return append(out, b.c.Preserve...)
}

// lastSteps adds what comes between the setup and the execve; at is where the
// files of lastFiles are, report the descriptor that reports failures.
func (b *builder) lastSteps(plan *spawn.Plan, report int, at []spawn.Arg) {
	if b.wantsReady() {
		b.syncs = append(b.syncs, SyncReady)
		plan.Gate(at[0], at[1])
	}
	if b.c.Gate != nil {
		at = at[2:]
	}
	if b.c.Start != nil {
		plan.WaitByte(at[0])
		at = at[1:]
	}
	plan.Preserve(report, at)
}

// errNoSync says that a child ended before it reached a sync point.
var errNoSync = errors.New("the child ended before its next sync point")

// AwaitSync waits, on the starter's end of Gate.Out, until the child has
// reached a sync point. If the child fails before, its report says why.
func AwaitSync(out *os.File) error {
	var b [1]byte
	n, err := out.Read(b[:])
	if n == 1 {
		return nil
	}
	return errors.Join(errNoSync, err)
}

// Pass lets the child go on from its sync point; in is the starter's end of Gate.In.
func Pass(in *os.File) error {
	_, err := in.Write([]byte{1})
	if errors.Is(err, syscall.EPIPE) {
		return errNoSync
	}
	return err
}
