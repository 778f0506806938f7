package runtime

import (
	"bytes"
	"errors"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Cell is a child that is ready to be parked: it runs the first part of a
// container's plan ahead of time and waits for the second.
//
//	cell, err := runtime.NewCell(c)       // c as for a start, with the future ID's cgroups, but no root
//	pid, err := keeper.Park(ctx, …cell…)
//	start, err := runtime.NewWake(c, cell) // later, with the container's own spec
//	process, err := keeper.Wake(ctx, …start…)
//
// If NewWake says [ErrNoFit], the container is not what the cell was made for:
// the cell must be evicted, and the start is a cold one.
type Cell struct {
	*Start
	key []byte
}

// ErrNoFit says that a cell was made for another kind of container.
var ErrNoFit = errors.New("the container differs from what the cell was made for")

// NewCell builds the first part of a plan for a container like c's. The spec
// needs only what most containers have in common; c.Root is not used.
func NewCell(c Config) (_ *Cell, err error) {
	c.Root = nil
	b, err := newBuilder(c)
	if err != nil {
		return nil, err
	}
	defer b.closeUnless(&err)
	key, err := b.firstPart()
	if err != nil {
		return nil, err
	}
	b.ParkStep()
	return &Cell{Start: b.start(), key: key}, nil
}

// NewWake builds the second part of the plan of the container c for the cell.
func NewWake(c Config, cell *Cell) (_ *Start, err error) {
	b, err := newBuilder(c)
	if err != nil {
		return nil, err
	}
	defer b.closeUnless(&err)
	b.dry = true
	key, err := b.firstPart()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key, cell.key) || b.flags != cell.Flags {
		return nil, ErrNoFit
	}
	b.newPart()
	if err := b.adopt(); err != nil {
		return nil, err
	}
	s := b.start()
	s.explainer.wake = true
	return s, nil
}

// firstPart adds the first part of the plan and returns its bytes. Descriptors
// are numbers there, so namespaces to be joined would be alike when they are
// not: only the network namespace may be given, which comes with the cell.
func (b *builder) firstPart() ([]byte, error) {
	for _, j := range b.ns.join {
		if j.typ != specs.NetworkNamespace || j.file != b.c.NetNS {
			return nil, ErrNoFit
		}
	}
	if err := b.prepare(); err != nil {
		return nil, err
	}
	return b.Image().Bytes, nil
}

// newPart begins a plan of its own for what follows: another message, other
// descriptors.
func (b *builder) newPart() {
	b.begin()
	b.cgroupFD, b.flags, b.dry = -1, 0, false
}
