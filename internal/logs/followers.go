package logs

import (
	"errors"
	"slices"
	"sync"
)

// Followers are the readers of logs that may be removed while they read: of containers
// that have ended. What was written they read all the same. The zero value is ready.
type Followers struct {
	mu sync.Mutex
	of map[string][]*Reader // by directory
}

// Open returns a reader of a log in dir, which has opened what there is of it. It has to
// be closed by the function that is returned.
func (f *Followers) Open(dir string, o Options) (*Reader, func(), error) {
	r := newReader(dir, o)
	f.mu.Lock()
	if f.of == nil {
		f.of = map[string][]*Reader{}
	}
	f.of[dir] = append(f.of[dir], r)
	f.mu.Unlock()
	done := func() {
		f.forget(r)
		r.close()
	}
	if _, err := r.look(); err != nil {
		done()
		return nil, nil, err
	}
	return r, done, nil
}

func (f *Followers) forget(r *Reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := slices.DeleteFunc(f.of[r.dir], func(other *Reader) bool { return other == r })
	if f.of[r.dir] = left; len(left) == 0 {
		delete(f.of, r.dir)
	}
}

// Hold has all who read a log open what they have not read yet. The log is complete, and
// can be removed afterwards.
func (f *Followers) Hold(dir string) error {
	f.mu.Lock()
	readers := slices.Clone(f.of[dir])
	f.mu.Unlock()
	var errs []error
	for _, r := range readers {
		errs = append(errs, r.hold())
	}
	return errors.Join(errs...)
}

func (r *Reader) hold() error {
	if there, err := r.look(); !there || err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Hold()
}
