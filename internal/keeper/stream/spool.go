package stream

import (
	"errors"
	"os"

	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// spool holds what the clients of one process have still to get: the raw
// stream (framed unless there is a terminal), from the slowest client's place to
// the end, in a file without a name that is written round and round. All clients
// of the process share it; each has its own place.
type spool struct {
	f   *os.File // nil: nothing is kept
	end int64    // places count from 0 at the last reset
}

const (
	// spoolMax is what a client may be behind before its process waits.
	spoolMax = 1 << 30
	// spoolSlack is room for what must be kept in spite of that: the pipes'
	// contents at the end of a process.
	spoolSlack = 8 << 20
)

// What tests make smaller.
var (
	spoolLimit int64 = spoolMax
	spoolSize  int64 = spoolMax + spoolSlack // of the file
)

var (
	errSpoolFull = errors.New("the spool is full")
	errSpoolTorn = errors.New("the spool is torn")
)

// add appends p, of which oldest is the first place that somebody needs.
func (s *spool) add(dir *os.File, p []byte, oldest int64) error {
	if s.end+int64(len(p))-oldest > spoolSize {
		return errSpoolFull
	}
	if s.f == nil {
		if dir == nil {
			return errors.New("no spool directory")
		}
		f, err := rawfd.Nameless(dir)
		if err != nil {
			return err
		}
		s.f = f
	}
	end := s.end + int64(len(p))
	for at := s.end; len(p) > 0; {
		n := min(int64(len(p)), spoolSize-at%spoolSize)
		if _, err := s.f.WriteAt(p[:n], at%spoolSize); err != nil {
			return err // the end stays where it was
		}
		p, at = p[n:], at+n
	}
	s.end = end
	return nil
}

// read fills p with what is at a place, as far as there is something.
func (s *spool) read(p []byte, at int64) (int, error) {
	n := min(int64(len(p)), s.end-at, spoolSize-at%spoolSize)
	if n <= 0 {
		return 0, nil
	}
	return s.f.ReadAt(p[:n], at%spoolSize)
}

// reset forgets everything but keeps the file: its first pages are in memory.
func (s *spool) reset() { s.end = 0 }

// release gives the file back.
func (s *spool) release() {
	if s.f != nil {
		s.f.Close()
	}
	s.f, s.end = nil, 0
}
