package logfile

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Loss is what could not be written to a log.
type Loss struct {
	Lines  int64  // in all
	Noted  int64  // those that a line in the log speaks of
	Reason string // of the last of them: "no space left on device"
}

// Unnoted is how many lines are missing that no line in the log speaks of.
func (l Loss) Unnoted() int64 { return l.Lines - l.Noted }

// Loss returns what could not be written so far.
func (w *Writer) Loss() Loss { return w.loss }

// SetLoss gives back what another process of the same keeper had counted.
func (w *Writer) SetLoss(l Loss) { w.loss = l }

// lose counts lines that are not in the log.
func (w *Writer) lose(lines int64, why error) {
	if lines == 0 {
		return
	}
	w.loss.Lines += lines
	w.loss.Reason = why.Error()
	var no syscall.Errno
	if errors.As(why, &no) { // without our own paths
		w.loss.Reason = no.Error()
	}
}

// NoteLoss writes the line that tells of lost lines, if there is something to
// tell that the log does not. The next Write does so too: this is for a process
// that has gone silent, or ended.
func (w *Writer) NoteLoss(now time.Time) error {
	if w.loss.Unnoted() == 0 {
		return nil
	}
	if err := w.resume(); err != nil {
		return err
	}
	return w.noteLoss(now.UnixNano())
}

// noteLoss is NoteLoss on an open log. The line is one of standard error.
func (w *Writer) noteLoss(now int64) error {
	n := w.loss.Unnoted()
	if n == 0 {
		return nil
	}
	text := fmt.Sprintf("%d lines of output were lost: %s", n, w.loss.Reason)
	if n == 1 {
		text = "1 line of output was lost: " + w.loss.Reason
	}
	b := w.newBatch(nil, Stderr, time.Unix(0, now))
	if w.midLine {
		b.encode(nil, true) // the end of the piece
		b.lines++
	}
	b.encode([]byte(text), true)
	b.lines++
	kept, err := w.put(b)
	if kept == b.lines {
		w.loss.Noted = w.loss.Lines
	}
	return err
}
