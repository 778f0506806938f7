package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

// redrawTime is how often rows that come from several streams are drawn.
const redrawTime = 500 * time.Millisecond

// each shows containers by a request for each: those named, or all there are,
// with those that come and go meanwhile.
func (s *statsScreen) each(ctx context.Context, cl *client.Client, names []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &statsBoard{cl: cl, o: s.o}
	if len(names) > 0 {
		for _, name := range names {
			b.add(ctx, name, name)
		}
		if err := b.awaitFirst(); err != nil {
			return err
		}
		return s.redraw(b, true)
	}
	list, err := cl.ContainerList(ctx, api.ListOptions{All: s.o.all})
	if err != nil {
		return err
	}
	for _, c := range list {
		b.add(ctx, c.ID, format.ShortID(c.ID))
	}
	b.awaitFirst() // one that has ended since is no failure
	if !s.o.noStream {
		go b.keepUp(ctx)
	}
	return s.redraw(b, false)
}

// redraw draws a board once, or again and again: until none is left of the
// containers that were named.
func (s *statsScreen) redraw(b *statsBoard, named bool) error {
	for {
		rows := b.picture()
		if err := s.draw(rows); err != nil || s.o.noStream {
			return err
		}
		if named && !slices.ContainsFunc(rows, func(r statsRow) bool { return r.s != nil }) {
			return nil
		}
		time.Sleep(redrawTime)
	}
}

// statsBoard holds a row for each container that is followed by a request of
// its own.
type statsBoard struct {
	cl *client.Client
	o  statsOptions

	mu   sync.Mutex
	rows []*followed
}

// followed is a container on the board, whose mu guards row and err.
type followed struct {
	name string
	row  statsRow
	err  error              // how its stream ended
	seen chan struct{}      // closed when there is a sample, or none to come
	stop context.CancelFunc // ends its stream
}

// add follows a container until it is removed, dropped or ctx ends.
func (b *statsBoard) add(ctx context.Context, name, shown string) {
	ctx, stop := context.WithCancel(ctx)
	f := &followed{name: name, row: statsRow{container: shown, full: b.o.noTrunc}, seen: make(chan struct{}), stop: stop}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.ContainsFunc(b.rows, func(g *followed) bool { return g.name == name }) {
		stop()
		return
	}
	b.rows = append(b.rows, f)
	go func() {
		var first sync.Once
		err := b.cl.ContainerStats(ctx, name, !b.o.noStream, func(st container.StatsResponse) error {
			b.mu.Lock()
			f.row.s = &st
			b.mu.Unlock()
			first.Do(func() { close(f.seen) })
			return nil
		})
		b.mu.Lock()
		if f.err = err; !b.o.noStream {
			f.row.s = nil
		}
		b.mu.Unlock()
		first.Do(func() { close(f.seen) })
	}()
}

// drop takes a container off the board.
func (b *statsBoard) drop(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = slices.DeleteFunc(b.rows, func(f *followed) bool {
		if f.name == name {
			f.stop()
		}
		return f.name == name
	})
}

// awaitFirst waits until something is known of each row, and returns why
// nothing is known of some.
func (b *statsBoard) awaitFirst() error {
	b.mu.Lock()
	rows := slices.Clone(b.rows)
	b.mu.Unlock()
	var errs []error
	for _, f := range rows {
		<-f.seen
		b.mu.Lock()
		errs = append(errs, f.err)
		b.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (b *statsBoard) picture() []statsRow {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := make([]statsRow, len(b.rows))
	for i, f := range b.rows {
		rows[i] = f.row
	}
	return rows
}

// keepUp adds the containers that come and drops those that go.
func (b *statsBoard) keepUp(ctx context.Context) {
	f := api.Filters{}
	f.Add("type", string(events.ContainerEventType))
	b.cl.Events(ctx, time.Time{}, time.Time{}, f, func(m events.Message) error {
		switch m.Action {
		case events.ActionCreate:
			if b.o.all {
				b.add(ctx, m.Actor.ID, format.ShortID(m.Actor.ID))
			}
		case events.ActionStart:
			b.add(ctx, m.Actor.ID, format.ShortID(m.Actor.ID))
		case events.ActionDie:
			if !b.o.all {
				b.drop(m.Actor.ID)
			}
		case events.ActionDestroy:
			b.drop(m.Actor.ID)
		}
		return nil
	})
}
