package container

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/health"
	"github.com/tare-engine/tare/internal/container/index"
)

// Container is one container of the engine.
//
// Whoever changes it holds mu from the decision until the record is written.
// Readers take the view and no lock.
type Container struct {
	ID string

	view  atomic.Pointer[View]
	turns turns
	looks chan struct{} // one for each look at its files that is under way

	copies chan struct{} // one for each copy of its files

	health atomic.Pointer[health.Monitor] // of this run or the last, nil without; changed below mu

	mu       sync.Mutex
	process  *process    // nil unless the view is Alive; guarded by mu
	restarts restarts    // guarded by mu
	waiting  []keeperEnd // clients attached before the start; guarded by mu
	running  []net.Conn  // our ends of the connections of runs (run.go); guarded by mu
	// settled is closed when the last exit is durable; nil: there was none; guarded
	// by mu.
	settled chan struct{}
	// cleared is closed when nothing is left of the last run, on the host or at
	// the keeper: the next may begin. nil: there was none; guarded by mu.
	cleared chan struct{}
	// removing is closed at the end of the last removal, whether it succeeded or
	// not; nil: there was none; guarded by mu.
	removing chan struct{}
	// renewals are users' restarts under way: the run that ends for one does not
	// take along a container that removes itself.
	renewals atomic.Int32
}

func newContainer(r *Record, status Status) *Container {
	c := &Container{ID: r.ID, turns: newTurns(), looks: make(chan struct{}, maxLooks), copies: make(chan struct{}, maxCopies)}
	c.view.Store(&View{Record: r, Status: status, Started: r.Last.StartedAt})
	return c
}

// stillStatus is the status of a container that does not run.
func stillStatus(r *Record) Status {
	if r.Last.StartedAt.IsZero() {
		return Created
	}
	return Exited
}

// Label is what the container is found by.
func (c *Container) Label() index.Label {
	v := c.View()
	return index.Label{ID: c.ID, Name: v.Name, Created: v.Created}
}

// goes reports whether the end of the run takes the container away.
func (c *Container) goes() bool { return c.View().AutoRemove() && c.renewals.Load() == 0 }

// View returns the container's current picture.
func (c *Container) View() *View { return c.view.Load() }

// runs reports whether there is a process that can be changed: also one of which the engine
// does not know yet that it has ended.
//
// Preconditions: c.mu is held.
func (c *Container) runs() bool { return c.process != nil && c.View().Alive() }

// publish stores a changed view. It panics on a step that state.go does not
// list: that is a bug of ours.
//
// Preconditions: c.mu is held.
func (c *Container) publish(change func(*View)) *View {
	old := c.View()
	next := *old
	change(&next)
	if next.Status != old.Status && !maySucceed(old.Status, next.Status) {
		panic("container: step from " + string(old.Status) + " to " + string(next.Status))
	}
	c.view.Store(&next)
	return &next
}

// adopt stores the view of what has become of a run while we did not watch it,
// from whatever state we believed in: the one way past the table of steps.
//
// Preconditions: c.mu is held.
func (c *Container) adopt(v *View) { c.view.Store(v) }

// withRecord returns a changed copy of a record.
func withRecord(r *Record, change func(*Record)) *Record {
	next := *r
	change(&next)
	return &next
}

// user is the user that the container's first process had at its start: the
// owner of its FIFOs.
func (c *Container) user() specs.User {
	if c.process != nil {
		return c.process.user
	}
	return specs.User{}
}

// closeStdin drops our duplicate of the writing end of the process's input.
func (c *Container) closeStdin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil && c.process.files.Stdin != nil {
		c.process.files.Stdin.Close()
		c.process.files.Stdin = nil
	}
}
