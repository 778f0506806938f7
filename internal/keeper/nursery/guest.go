package nursery

import (
	"errors"
	"fmt"
	"os"

	"github.com/tare-engine/tare/internal/keeper/reaper"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Guest is a nursery for one start, in the user namespace of a container: its
// child is born there. It has a region of its own, because what is in a
// container's user namespace shall not map the plans of others.
type Guest struct {
	region  *spawn.Region
	nursery *spawn.Nursery
	ended   chan struct{}
}

// guestArenas are the nursery's, and a pair for the child.
const guestArenas = 3

// NewGuest makes one; the caller closes it.
func NewGuest(userns *os.File, r *reaper.Reaper) (*Guest, error) {
	region, err := spawn.NewRegion(guestArenas)
	if err != nil {
		return nil, err
	}
	booked := r.Cloning()
	defer booked()
	n, err := region.NewNurseryIn(userns)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("nursery in a user namespace: %w", err), region.Close())
	}
	g := &Guest{region: region, nursery: n, ended: make(chan struct{})}
	r.Book(n.Pid(), func(reaper.End) { close(g.ended) })
	return g, nil
}

// Get takes an arena.
func (g *Guest) Get() *spawn.Slab { return g.region.Get() }

// Clone has the nursery clone a child. If it dies over it, the kernel has noted
// the pid of a child that was made.
func (g *Guest) Clone(s *spawn.Slab, o spawn.Options, fds []*os.File) (pid int, err error) {
	pid, err = g.nursery.Start(s, o, fds)
	if errors.Is(err, spawn.ErrNurseryDied) && s.Pid() > 0 {
		return s.Pid(), nil
	}
	return pid, err
}

// Close ends the nursery, waits for its end and frees the memory. The arenas have
// been given back.
func (g *Guest) Close() error {
	err := g.nursery.Close()
	<-g.ended
	g.nursery.Free()
	return errors.Join(err, g.region.Close())
}
