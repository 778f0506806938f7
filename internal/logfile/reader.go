package logfile

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"slices"
	"time"
)

// Reader reads a log from its oldest generation to the end of the live file,
// and on from there when more has been written. It keeps the files it needs
// open, so what rotation removes meanwhile is still read.
type Reader struct {
	dir   *os.Root
	name  string
	marks index

	segments []*segment // the one being read comes first
	src      io.Reader  // what is left of the first segment
	last     bool       // the first segment has a successor: its end is final
	off      int64      // in the first segment: of buf[r]
	buf      []byte
	r, w     int // unread part of buf

	skipped int64
}

// segment is an open generation.
type segment struct {
	gen   uint64
	inode uint64
	f     *os.File
	gz    bool
}

const (
	// A client that follows and does not read keeps its reader's buffer: a thousand
	// of them are 16 MB. Larger reads are hardly faster.
	readSize = 16 << 10
	// The longest line that is read: 16 KiB of text with six bytes for each, and
	// attributes. A longer one is not ours and is skipped.
	maxEncoded = 4 << 20
	// A reader that falls behind keeps rotated files from being freed: so many
	// bytes at most, as with the spool of an attached client.
	maxHeld = 1 << 30
)

// Open returns a reader at the beginning of the log called name (see Name) in
// dir, which the reader then owns. A log that does not exist yet is empty.
func Open(dir *os.Root, name string) (*Reader, error) {
	r := &Reader{dir: dir, name: name}
	if err := r.refresh(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close gives back the files and the directory.
func (r *Reader) Close() error {
	var errs []error
	for _, s := range r.segments {
		errs = append(errs, s.f.Close())
	}
	r.segments = nil
	return errors.Join(append(errs, r.dir.Close())...)
}

// Position returns where the next entry begins.
func (r *Reader) Position() Position {
	if len(r.segments) == 0 {
		return Position{}
	}
	return Position{r.segments[0].gen, r.off}
}

// Next reads the next entry into e. It returns io.EOF at the end of what has
// been written, and may be called again then.
func (r *Reader) Next(e *Entry) error {
	for {
		line, err := r.line()
		if err != nil {
			return err
		}
		r.off += int64(len(line))
		line = line[:len(line)-1]
		if err := parseLine(line, e); err != nil {
			if len(line) > 0 {
				r.skipped++
			}
			continue
		}
		e.End = r.Position()
		return nil
	}
}

// line returns the next line with its newline.
func (r *Reader) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.r:r.w], '\n'); i >= 0 {
			line := r.buf[r.r : r.r+i+1]
			r.r += i + 1
			return line, nil
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads more, from the next generation if this one is finished.
func (r *Reader) fill() error {
	if len(r.segments) == 0 {
		if err := r.refresh(); err != nil {
			return err
		}
		if len(r.segments) == 0 {
			return io.EOF
		}
	}
	if err := r.open(); err != nil {
		return err
	}
	r.makeRoom()
	n, err := r.src.Read(r.buf[r.w:])
	r.w += n
	if n > 0 || err == nil {
		return nil
	}
	if err != io.EOF && !(r.segments[0].gz && errors.Is(err, io.ErrUnexpectedEOF)) {
		return err
	}
	return r.atEnd()
}

// atEnd is called at the end of a segment. The successor may have been made
// after the last read but before now, with lines in between: so the end counts
// only once it is met with the successor known.
func (r *Reader) atEnd() error {
	switch {
	case r.last:
		r.pop()
		return nil
	case len(r.segments) == 1:
		if err := r.refresh(); err != nil {
			return err
		}
		if len(r.segments) == 1 {
			return io.EOF
		}
	}
	r.last = true
	return nil
}

func (r *Reader) pop() {
	r.segments[0].f.Close()
	r.segments = r.segments[1:]
	if r.w > r.r {
		r.skipped++ // torn by a crash
	}
	r.src, r.last, r.off, r.r, r.w = nil, false, 0, 0, 0
}

// open begins the first segment if that has not been done.
func (r *Reader) open() error {
	if r.src != nil {
		return nil
	}
	s := r.segments[0]
	if !s.gz {
		r.src = s.f
		return nil
	}
	z, err := gzip.NewReader(s.f)
	if err != nil {
		return err
	}
	r.src = z
	return nil
}

func (r *Reader) makeRoom() {
	if r.r == r.w {
		r.r, r.w = 0, 0
	}
	if r.buf == nil {
		r.buf = make([]byte, readSize)
	}
	if r.w < len(r.buf) {
		return
	}
	switch {
	case r.r > 0:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	case len(r.buf) < maxEncoded:
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	default: // no line of ours: drop what is there and go on behind it
		r.off += int64(r.w)
		r.w = 0
	}
}

// Hold opens what has been written so far and is not read yet: it can be removed then.
func (r *Reader) Hold() error { return r.refresh() }

// refresh opens the generations that are newer than those held.
func (r *Reader) refresh() error {
	if n := len(r.segments); n > 0 {
		// An inode held open is not used again, so the same one is the same file.
		fi, err := r.dir.Lstat(r.name)
		if err == nil && inodeOf(fi) == r.segments[n-1].inode {
			return nil
		}
	}
	// While files change their names one can escape the listing; the index is
	// newer than the names, so it tells.
	const tries = 20
	for try := range tries + 1 {
		marks := loadIndex(r.dir, r.name)
		if marks == nil {
			return r.refreshUnindexed()
		}
		whole, err := r.take(marks, try == tries)
		if err != nil {
			return err
		}
		if whole {
			r.marks = marks
			break
		}
		time.Sleep(time.Duration(try) * 100 * time.Microsecond)
	}
	r.dropOldest()
	return nil
}

// take opens the files of generations not held yet. It reports whether all that
// the index names are there now; if not, it has taken the unbroken first part
// (later might be too late), or with force what there is.
func (r *Reader) take(marks index, force bool) (whole bool, err error) {
	files, err := list(r.dir, r.name, marks)
	if err != nil {
		return false, err
	}
	held := r.newest()
	var found []*segment
	for _, f := range files {
		if f.gen <= held || slices.ContainsFunc(found, func(s *segment) bool { return s.gen == f.gen }) {
			continue
		}
		if s := openSegment(r.dir, f); s != nil {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *segment) int { return cmp.Compare(a.gen, b.gen) })
	whole = force || len(found) == marks.from(held+1).generations()
	n := len(found)
	if !whole {
		for n = 0; n < len(found) && found[n].gen == held+1+uint64(n); n++ {
		}
	}
	for _, s := range found[n:] {
		s.f.Close()
	}
	r.segments = append(r.segments, found[:n]...)
	return whole, nil
}

// openSegment opens a listed file; nil if it is another file by now.
func openSegment(dir *os.Root, f file) *segment {
	h, err := dir.Open(f.name)
	if err != nil {
		return nil
	}
	if fi, err := h.Stat(); err != nil || inodeOf(fi) != f.inode {
		h.Close()
		return nil
	}
	return &segment{gen: f.gen, inode: f.inode, f: h, gz: f.gz}
}

// refreshUnindexed opens the files of a log that has no index: another
// engine's. They are numbered by their names, once.
func (r *Reader) refreshUnindexed() error {
	if len(r.segments) > 0 {
		return nil
	}
	files, err := list(r.dir, r.name, nil)
	if err != nil {
		return err
	}
	for _, f := range files {
		f.gen = r.newest() + 1
		if s := openSegment(r.dir, f); s != nil && f.age >= 0 {
			r.segments = append(r.segments, s)
		}
	}
	return nil
}

func (r *Reader) newest() uint64 {
	if n := len(r.segments); n > 0 {
		return r.segments[n-1].gen
	}
	return 0
}

// dropOldest lets go of files that rotation has removed if they are too many;
// the one being read stays.
func (r *Reader) dropOldest() {
	var held int64
	for i := len(r.segments) - 1; i > 0; i-- {
		fi, err := r.segments[i].f.Stat()
		if err != nil {
			continue
		}
		if held += fi.Size(); held > maxHeld {
			for _, s := range r.segments[1 : i+1] {
				s.f.Close()
			}
			r.segments = slices.Delete(r.segments, 1, i+1)
			return
		}
	}
}
