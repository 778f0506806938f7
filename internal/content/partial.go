package content

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// partialAge is how long the beginning of a blob is kept whose rest did not
// come: the next attempt, also of a later engine, goes on where it ends.
const partialAge = 24 * time.Hour

// Partial is a blob that is being received, in a file that outlives the engine:
//
//	DATAROOT/content/partial/HEX
//
// Whoever receives the same blob shares the file: one at a time writes (Lock),
// and the last one who closes it decides whether it stays. What is in it has
// not been verified, unless one of them says so: it is not changed any more then.
type Partial struct {
	s      *Store
	d      digest.Digest
	path   string
	shared *receiving
}

// receiving is what the Partials of one blob have in common.
type receiving struct {
	users int           // +checklocks:Store.mu
	turn  chan struct{} // holds the token of the one who writes
	whole bool          // verified; belongs to who has the turn
}

// Partial begins to receive the blob d. It is closed by its maker.
func (s *Store) Partial(d digest.Digest) (*Partial, error) {
	if err := check(d); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.receiving[d]
	if r == nil {
		r = &receiving{turn: make(chan struct{}, 1)}
		s.receiving[d] = r
	}
	r.users++
	return &Partial{s: s, d: d, path: filepath.Join(s.partial(), d.Encoded()), shared: r}, nil
}

// Path is where the file is, if it is there.
func (p *Partial) Path() string { return p.path }

// Lock waits for the right to write and opens the file, which is made if need
// be. The caller closes it before it calls unlock, or only reads from then on
// what it has said to be whole.
func (p *Partial) Lock(ctx context.Context) (f *os.File, unlock func(), err error) {
	select {
	case p.shared.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	unlock = func() { <-p.shared.turn }
	f, err = os.OpenFile(p.path, os.O_RDWR|os.O_CREATE, 0600)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return f, unlock, nil
}

// Whole reports whether the file is the blob, verified. Preconditions: the
// caller has the right to write.
func (p *Partial) Whole() bool { return p.shared.whole }

// SetWhole says that the file is the blob, verified. Preconditions: the caller
// has the right to write.
func (p *Partial) SetWhole() { p.shared.whole = true }

// Close ends the use of the file. It is removed if nobody else uses it, unless
// it is to be kept for a later attempt.
func (p *Partial) Close(keep bool) error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	r := p.s.receiving[p.d]
	if r.users--; r.users > 0 {
		return nil
	}
	delete(p.s.receiving, p.d)
	if info, err := os.Stat(p.path); keep && (err != nil || info.Size() > 0) {
		return nil
	}
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ExpirePartials removes what nobody uses and was last written a day ago.
func (s *Store) ExpirePartials() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := os.ReadDir(s.partial())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range list {
		if s.receiving[digest.NewDigestFromEncoded(digest.SHA256, e.Name())] != nil {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && time.Since(info.ModTime()) > partialAge {
			slog.Info("the beginning of a blob is removed: its rest did not come", "blob", e.Name(), "bytes", info.Size())
			err = os.Remove(filepath.Join(s.partial(), e.Name()))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
