package logfile

import (
	"bytes"
	"io"
	"time"
)

// SeekPosition makes the entry that begins at p the next one. Where p is gone,
// the oldest entry there is comes next.
func (r *Reader) SeekPosition(p Position) error {
	for len(r.segments) > 1 && r.segments[0].gen < p.Generation {
		r.pop()
	}
	if len(r.segments) == 0 || r.segments[0].gen != p.Generation {
		return nil
	}
	return r.seek(p.Offset)
}

// SeekTime skips entries before t as far as the index tells: fewer than markEvery
// bytes before the first that is not older remain, for the caller to compare.
func (r *Reader) SeekTime(t time.Time) error {
	ns := t.UnixNano()
	start := Position{}
	for _, m := range r.marks {
		// Clocks are set back: only what lies before every mark that is not
		// older can be skipped.
		if m.Time >= ns {
			break
		}
		start = Position{m.Generation, m.Offset}
	}
	return r.SeekPosition(start)
}

// SeekTail makes the n-th entry from the present end the next one, the first
// one if there are fewer.
func (r *Reader) SeekTail(n int64) error {
	ahead := n // entries still to be found, from the end backwards
	for i := len(r.segments) - 1; i >= 0; i-- {
		c, err := r.count(r.segments[i])
		if err != nil {
			return err
		}
		if c >= ahead || i == 0 {
			for range i {
				r.pop()
			}
			return r.skipLines(max(c-ahead, 0))
		}
		ahead -= c
	}
	return nil
}

// count returns the number of lines in a segment: what the index says up to
// its last mark, and counting behind it.
func (r *Reader) count(s *segment) (int64, error) {
	var from mark
	if m := r.marks.of(s.gen); len(m) > 0 {
		from = m[len(m)-1]
	}
	if s.gz {
		z := &Reader{segments: []*segment{s}}
		if err := z.open(); err != nil {
			return 0, err
		}
		if _, err := io.CopyN(io.Discard, z.src, from.Offset); err != nil {
			return 0, err
		}
		n, _, err := countLines(z.src)
		if _, serr := s.f.Seek(0, io.SeekStart); serr != nil {
			return 0, serr
		}
		return from.Lines + n, err
	}
	n, _, err := countLines(io.NewSectionReader(s.f, from.Offset, 1<<62))
	return from.Lines + n, err
}

// skipLines goes to the line with the number n of the first segment.
func (r *Reader) skipLines(n int64) error {
	if len(r.segments) == 0 {
		return nil
	}
	var at mark
	for _, m := range r.marks.of(r.segments[0].gen) {
		if m.Lines > n {
			break
		}
		at = m
	}
	if err := r.seek(at.Offset); err != nil {
		return err
	}
	for n -= at.Lines; n > 0; {
		if r.r == r.w {
			if err := r.fill(); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
		n -= r.drop(n)
	}
	return nil
}

// drop skips up to n lines of what is in the buffer and returns how many.
func (r *Reader) drop(n int64) (dropped int64) {
	for dropped < n {
		i := bytes.IndexByte(r.buf[r.r:r.w], '\n')
		if i < 0 {
			r.off += int64(r.w - r.r)
			r.r = r.w
			return dropped
		}
		r.off += int64(i) + 1
		r.r += i + 1
		dropped++
	}
	return dropped
}

// seek goes to an offset of the first segment.
func (r *Reader) seek(off int64) error {
	r.r, r.w, r.last, r.src = 0, 0, false, nil
	s := r.segments[0]
	if !s.gz {
		fi, err := s.f.Stat()
		if err != nil {
			return err
		}
		r.off = min(off, fi.Size()) // a power cut may have taken what was before off
		_, err = s.f.Seek(r.off, io.SeekStart)
		return err
	}
	r.off = 0
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	n, err := io.CopyN(io.Discard, r.src, off)
	r.off = n
	if err == io.EOF {
		return nil
	}
	return err
}
