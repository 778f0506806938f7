package logfile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

// Options say how a log is kept.
type Options struct {
	MaxSize  int64             // bytes after which the live file is rotated; 0 or less: never
	MaxFiles int               // files kept, the live one among them; less than 1 means 1
	Compress bool              // rotated files are compressed with gzip
	Attrs    map[string]string // written with each line; not in the format Text
	Format   Format
}

// Writer appends the output of one container to its log. It holds no file and
// no buffer until something is written, and gives both back in Suspend; what it
// keeps then is the unfinished last line of each stream. It is not safe for
// concurrent use.
type Writer struct {
	open  func() (*os.Root, error)
	name  string
	o     Options
	attrs []byte

	dir       *os.Root // nil while suspended
	file      *os.File
	marksFile *os.File // the index, for appending; nil if that failed

	marks   index
	gen     uint64
	size    int64 // of the live file
	lines   int64 // in the live file
	retry   int64 // after a failed rotation: the size at which it is tried again
	midLine bool  // the last line written is a piece of a longer one
	loss    Loss

	tail [2][]byte // unfinished lines of stdout and stderr
}

// NewWriter makes a writer for the log called name (see Name) in the directory
// that open returns; it is opened at the first write and owned by the writer.
func NewWriter(open func() (*os.Root, error), name string, o Options) *Writer {
	o.MaxFiles = max(o.MaxFiles, 1)
	return &Writer{open: open, name: name, o: o, attrs: encodeAttrs(o.Attrs)}
}

// buffers holds what lines are encoded into: one for each writer at work.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, flushAt+flushAt/4); return &b }}

// flushAt is the size of one write to the file.
const flushAt = 256 << 10

// batch is the encoded lines that are not in the file yet.
type batch struct {
	buf    []byte
	format Format
	head   []byte // of the format Text: what begins each line; see textHead
	tail   []byte // of JSON: what ends each line; see lineTail
	lines  int64
	time   int64
	err    error // the first of them; later lines are tried all the same
}

// newBatch is an empty batch of lines of one stream, in buf.
func (w *Writer) newBatch(buf []byte, s Stream, now time.Time) *batch {
	b := &batch{buf: buf, format: w.o.Format, time: now.UnixNano()}
	if b.format == Text {
		b.head = textHead(nil, s, now)
	} else {
		b.tail = lineTail(nil, s, w.attrs, now)
	}
	return b
}

// Write appends the output p of one stream, read at now. Complete lines go to
// the file at once; an unfinished one waits for its end, for Flush or until it
// is 16 KiB long. If the file cannot be written (the disk is full), lines are
// dropped and counted, and the error says why; once there is room again, a line
// in their place tells how many they were.
func (w *Writer) Write(s Stream, p []byte, now time.Time) error {
	return w.batch(s, now, func(b *batch) {
		t := &w.tail[s-1]
		for len(p) > 0 {
			if len(*t) == 0 {
				p = w.whole(b, t, p)
			} else {
				p = w.join(b, t, p)
			}
		}
	})
}

// Flush writes the unfinished line of a stream that has ended.
func (w *Writer) Flush(s Stream, now time.Time) error {
	t := &w.tail[s-1]
	if len(*t) == 0 {
		return nil
	}
	return w.batch(s, now, func(b *batch) {
		w.line(b, *t, false)
		*t = nil
	})
}

func (w *Writer) batch(s Stream, now time.Time, fill func(*batch)) error {
	// The size must be known before lines are gathered; if the log cannot be
	// opened, append finds out again and counts.
	_ = w.resume()
	bp := buffers.Get().(*[]byte)
	b := w.newBatch((*bp)[:0], s, now)
	fill(b)
	w.flush(b)
	if cap(b.buf) <= 4*flushAt {
		*bp = b.buf[:0]
	}
	buffers.Put(bp)
	return b.err
}

// whole takes one line or piece from p, keeps what is unfinished in t, and
// returns the rest.
func (w *Writer) whole(b *batch, t *[]byte, p []byte) []byte {
	i := bytes.IndexByte(p[:min(len(p), maxLine)], '\n')
	switch {
	case i >= 0:
		w.line(b, p[:i], true)
		return p[i+1:]
	case len(p) >= maxLine:
		n := runeCut(p[:maxLine])
		w.line(b, p[:n], false)
		return p[n:]
	}
	*t = bytes.Clone(p)
	return nil
}

// join continues the unfinished line t with p and returns the rest of p.
func (w *Writer) join(b *batch, t *[]byte, p []byte) []byte {
	room := min(len(p), maxLine-len(*t))
	i := bytes.IndexByte(p[:room], '\n')
	if i >= 0 {
		w.line(b, append(*t, p[:i]...), true)
		*t = nil
		return p[i+1:]
	}
	*t = append(*t, p[:room]...)
	if len(*t) == maxLine {
		n := runeCut(*t)
		w.line(b, (*t)[:n], false)
		*t = bytes.Clone((*t)[n:])
	}
	return p[room:]
}

// runeCut returns where to cut a full piece: before a character whose rest is
// still to come, so that two halves do not become U+FFFD.
func runeCut(p []byte) int {
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if c := p[len(p)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(p[len(p)-i:]) && i < len(p) {
				return len(p) - i
			}
			break
		}
	}
	return len(p)
}

// line encodes one line, rotating before it if the live file is full: as in
// Docker a file ends with the first line that reaches its size.
func (w *Writer) line(b *batch, text []byte, ends bool) {
	if w.o.MaxSize > 0 && w.size+int64(len(b.buf)) >= w.limit() || len(b.buf) >= flushAt {
		w.flush(b)
	}
	b.encode(text, ends)
	b.lines++
}

// encode appends one line to the buffer.
func (b *batch) encode(text []byte, ends bool) {
	if b.format == Text {
		b.buf = appendText(b.buf, b.head, text, ends)
		return
	}
	b.buf = append(b.buf, `{"log":"`...)
	b.buf = appendString(b.buf, text)
	if ends {
		b.buf = append(b.buf, `\n`...)
	}
	b.buf = append(b.buf, b.tail...)
}

// endsInPiece reports whether the last line of what was written is a piece of a
// longer one.
func (b *batch) endsInPiece(written []byte) bool {
	if b.format == JSON {
		return !bytes.HasSuffix(written, append([]byte(`\n`), b.tail...))
	}
	last := written[bytes.LastIndexByte(written[:len(written)-1], '\n')+1:]
	return len(last) > len(b.head) && last[len(b.head)] == pieceMark
}

// limit is the size at which the live file is rotated.
func (w *Writer) limit() int64 { return max(w.o.MaxSize, w.retry) }

// flush writes the batch to the file, and rotates if that fills it.
func (w *Writer) flush(b *batch) {
	if len(b.buf) == 0 {
		return
	}
	err := w.append(b)
	if err != nil && b.err == nil {
		b.err = err
	}
	b.buf, b.lines = b.buf[:0], 0
}

func (w *Writer) append(b *batch) error {
	if err := w.resume(); err != nil {
		w.lose(b.lines, err)
		return err
	}
	if w.o.MaxSize > 0 && w.size >= w.limit() {
		if err := w.rotate(b.time); err != nil {
			// Better a file beyond its size than lost lines; but a directory
			// that cannot be written is not asked again for every line.
			w.retry = w.size + 1<<20
		}
	}
	if err := w.noteLoss(b.time); err != nil {
		w.lose(b.lines, err)
		return err
	}
	kept, err := w.put(b)
	w.lose(b.lines-kept, err)
	return err
}

// put writes a batch to the live file and returns how many of its lines are in
// it: all, unless there is an error.
func (w *Writer) put(b *batch) (kept int64, err error) {
	n, err := w.file.Write(b.buf)
	if kept = b.lines; err != nil {
		n, kept, err = w.repairShort(b, n, err)
	}
	if n > 0 {
		w.midLine = b.endsInPiece(b.buf[:n])
	}
	w.mark(b.time)
	w.size += int64(n)
	w.lines += kept
	return kept, err
}

// repairShort keeps the whole lines of a write that stopped after n bytes.
func (w *Writer) repairShort(b *batch, n int, err error) (end int, kept int64, _ error) {
	end = bytes.LastIndexByte(b.buf[:n], '\n') + 1
	if terr := w.file.Truncate(w.size + int64(end)); terr != nil {
		err = errors.Join(err, terr)
	}
	return end, int64(bytes.Count(b.buf[:end], []byte{'\n'})), err
}

// mark adds a mark to the index if the last one is far enough back. It stands
// before the bytes just written, whose first line bears the time.
func (w *Writer) mark(now int64) {
	last := w.marks[len(w.marks)-1]
	if w.size-last.Offset < markEvery {
		return
	}
	m := mark{Generation: w.gen, Inode: last.Inode, Offset: w.size, Lines: w.lines, Time: now}
	w.marks = append(w.marks, m)
	if w.marksFile != nil {
		// A reader does without what is missing here.
		if _, err := w.marksFile.Write(m.append(nil)); err != nil {
			w.marksFile.Close()
			w.marksFile = nil
		}
	}
}

// Position returns where the next line goes. Lines written before are in front
// of it; what Tail returns is not.
func (w *Writer) Position() (Position, error) {
	if err := w.resume(); err != nil {
		return Position{}, err
	}
	return Position{w.gen, w.size}, nil
}

// Tail returns the unfinished line of a stream.
func (w *Writer) Tail(s Stream) []byte { return w.tail[s-1] }

// SetTail gives back an unfinished line that another process of the same
// keeper had read.
func (w *Writer) SetTail(s Stream, p []byte) { w.tail[s-1] = bytes.Clone(p) }

// Suspend closes the files until something is written again.
func (w *Writer) Suspend() error {
	if w.dir == nil {
		return nil
	}
	err := w.file.Close()
	if w.marksFile != nil {
		err = errors.Join(err, w.marksFile.Close())
	}
	err = errors.Join(err, w.dir.Close())
	w.dir, w.file, w.marksFile, w.marks = nil, nil, nil, nil
	return err
}

// resume opens the log and settles what a crash may have left.
func (w *Writer) resume() (err error) {
	if w.dir != nil {
		return nil
	}
	dir, err := w.open()
	if err != nil {
		return err
	}
	if err = w.load(dir); err != nil {
		dir.Close()
		return err
	}
	w.dir = dir
	return nil
}

func (w *Writer) load(dir *os.Root) error {
	marks, err := settle(dir, w.name, loadIndex(dir, w.name))
	if err != nil {
		return err
	}
	f, err := dir.OpenFile(w.name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := w.loadLive(dir, f, marks); err != nil {
		f.Close()
		return err
	}
	w.file = f
	w.openMarks(dir)
	return nil
}

// loadLive finds the live file's generation, size and lines, and cuts off a
// last line that a crash tore.
func (w *Writer) loadLive(dir *os.Root, f *os.File, marks index) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	w.gen = marks.generation(inodeOf(fi))
	if w.gen == 0 || w.gen != marks.newest() {
		w.gen = marks.newest() + 1
		m := mark{Generation: w.gen, Inode: inodeOf(fi)}
		if len(marks) > 0 { // a time that no line before it is later than
			m.Time = time.Now().UnixNano()
		}
		marks = append(marks, m)
		if err := replaceIndex(dir, w.name, marks); err != nil {
			return err
		}
	}
	last := marks[len(marks)-1]
	if last.Offset > fi.Size() { // someone cut the file: its marks are not true any more
		marks = append(marks[:len(marks)-len(marks.of(w.gen))], marks.of(w.gen)[0])
		last = marks[len(marks)-1]
		if err := replaceIndex(dir, w.name, marks); err != nil {
			return err
		}
	}
	lines, end, err := countLines(io.NewSectionReader(f, last.Offset, fi.Size()-last.Offset))
	if err != nil {
		return err
	}
	w.marks, w.lines, w.size = marks, last.Lines+lines, last.Offset+end
	if w.size < fi.Size() {
		return f.Truncate(w.size)
	}
	return nil
}

// countLines returns the number of whole lines in r and where the last ends.
func countLines(r io.Reader) (lines, end int64, err error) {
	buf := make([]byte, 64<<10)
	var off int64
	for {
		n, err := r.Read(buf)
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			lines += int64(bytes.Count(buf[:i+1], []byte{'\n'}))
			end = off + int64(i) + 1
		}
		off += int64(n)
		if err == io.EOF {
			return lines, end, nil
		}
		if err != nil {
			return lines, end, err
		}
	}
}

func (w *Writer) openMarks(dir *os.Root) {
	f, err := dir.OpenFile(indexName(w.name), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		f = nil
	}
	w.marksFile = f
}
