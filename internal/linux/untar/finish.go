package untar

import (
	"archive/tar"

	"golang.org/x/sys/unix"
)

// A finisher sets what belongs to files, and closes them, while others are made. It
// has their descriptors and resolves no path: so it needs no thread with a root of
// its own.
type finisher struct {
	set     func(fd int, h *tar.Header) error
	batch   []written // not handed over yet
	batches chan []written
	failed  chan struct{} // closed with the first error
	ended   chan struct{}
	err     error // the first, to be read when it has failed or ended
}

// written is a file that has its data.
type written struct {
	fd int
	h  *tar.Header
}

// perBatch is how many files are handed over at once: for a single one it takes
// longer to wake a thread than to do what is to be done. After an error so many more
// may have been made.
const perBatch = 32

// newFinisher starts one, which ends with close.
func newFinisher(set func(fd int, h *tar.Header) error) *finisher {
	f := &finisher{set: set, batches: make(chan []written), failed: make(chan struct{}), ended: make(chan struct{})}
	go f.run()
	return f
}

func (f *finisher) run() {
	defer close(f.ended)
	for batch := range f.batches {
		for _, w := range batch {
			f.one(w)
		}
	}
}

func (f *finisher) one(w written) {
	defer unix.Close(w.fd)
	if err := f.set(w.fd, w.h); err != nil && f.err == nil {
		f.err = blame(w.h.Name, err)
		close(f.failed)
	}
}

// add takes over a file, whose descriptor is the finisher's from then on. It may
// return the error of an earlier one.
func (f *finisher) add(fd int, h *tar.Header) error {
	f.batch = append(f.batch, written{fd, h})
	if len(f.batch) < perBatch {
		return nil
	}
	f.batches <- f.batch
	f.batch = nil
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}

// close waits until all files are finished, and returns the first error.
func (f *finisher) close() error {
	f.batches <- f.batch
	close(f.batches)
	<-f.ended
	return f.err
}
