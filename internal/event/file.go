package event

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/moby/moby/api/types/events"
)

// A log's directory has two files, of size messages each at most: one JSON document
// a line, as the Engine API has them.
const (
	liveName = "events"
	pastName = "events.1"
)

// maxMessage bounds a line that is read.
const maxMessage = 1 << 20

// file is where messages are kept for the next engine.
type file struct {
	dir   string
	f     *os.File
	lines int
	torn  bool // the last line has no end
	buf   []byte
	told  bool // that it cannot be written
}

// Open returns a log with the messages that an engine before has left in dir, which
// must exist. One that cannot be read, or written, is a log that begins now.
func Open(dir string) *Log {
	l := NewLog()
	l.file = &file{dir: dir}
	for _, name := range []string{pastName, liveName} {
		n, torn, err := l.read(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			slog.Warn("events of before could not all be read", "file", filepath.Join(dir, name), "err", err)
		}
		l.file.lines, l.file.torn = n, torn
	}
	return l
}

// Close gives the file back. Messages of after that are for listeners only.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.file
	l.file = nil
	if kept == nil || kept.f == nil {
		return nil
	}
	return kept.f.Close()
}

// read takes the messages of a file. A line that is none is what a kill has left.
func (l *Log) read(path string) (lines int, torn bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	r := bufio.NewScanner(f)
	r.Buffer(nil, maxMessage)
	for r.Scan() {
		lines++
		var m events.Message
		if torn = json.Unmarshal(r.Bytes(), &m) != nil; !torn {
			l.add(m)
		}
	}
	return lines, torn, r.Err()
}

// append writes a message. What cannot be written is told of once: the message goes to
// its listeners all the same.
func (f *file) append(m *events.Message) {
	err := f.write(m)
	if err != nil && !f.told {
		slog.Warn("events are not kept for the next engine", "err", err)
	}
	f.told = err != nil
}

func (f *file) write(m *events.Message) error {
	if err := f.open(); err != nil {
		return err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f.buf = f.buf[:0]
	if f.torn {
		f.buf = append(f.buf, '\n')
	}
	f.buf = append(append(f.buf, b...), '\n')
	n, err := f.f.Write(f.buf)
	if err != nil {
		f.torn = f.torn || n > 0
		return err
	}
	f.torn = false
	f.lines++
	return nil
}

// open opens the live file, a new one if it is full.
func (f *file) open() error {
	live := filepath.Join(f.dir, liveName)
	if f.lines >= size {
		if err := os.Rename(live, filepath.Join(f.dir, pastName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f.f != nil {
			f.f.Close()
		}
		f.f, f.lines, f.torn = nil, 0, false
	}
	if f.f != nil {
		return nil
	}
	var err error
	f.f, err = os.OpenFile(live, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return err
}
