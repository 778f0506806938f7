// Package progress shows what an engine reports of a pull, a push or a load, as
// docker's command line does. Reports with an id and counts are about a part,
// mostly a layer; the others are plain lines.
//
// On a terminal each part has a row that changes in place. The cursor rests
// below the last one:
//
//	4f4fb700ef54: Pull complete                       ─┐
//	9c0abc9c5bd3: Extracting [==>      ]  1.2MB/8.1MB   │ rows, fewer than the terminal has lines
//	b0a0cf830b12: Downloading [=>      ]  2.0MB/40MB  ─┘
//	▌
//
// What has left the screen cannot be changed any more. So where there are more
// parts than lines, one that is complete leaves the screen at the top when
// another one comes in at the bottom, and those that find no room wait.
//
// Elsewhere a report is a line, and those that count bytes are left out.
package progress

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/tare-engine/tare/cmd/tare/format"
)

// Display shows the reports of one operation. What others wrote in them does
// not steer the terminal.
type Display struct {
	out  io.Writer
	size func() (rows, cols int) // nil: no terminal

	buf     bytes.Buffer // what one report changes is written at once
	parts   map[string]*part
	shown   []*part // from top to bottom
	waiting []*part
}

// part is something that is transferred by itself.
type part struct {
	id, status string
	progress   *jsonstream.Progress
}

// New makes a display on out. size tells lines and columns of a terminal, zero
// if it does not know them; nil means that out is none.
func New(out io.Writer, size func() (rows, cols int)) *Display {
	return &Display{out: out, size: size, parts: map[string]*part{}}
}

// Show shows one report.
func (d *Display) Show(m jsonstream.Message) error {
	switch {
	case m.Aux != nil:
		return nil // for programs
	case d.size == nil:
		d.line(m)
	case m.Stream == "" && m.ID != "" && (m.Progress != nil || d.parts[m.ID] != nil):
		d.update(m)
	default:
		d.finish()
		d.line(m)
	}
	return d.flush()
}

// Close shows what still waits. It is to be called at the end, also after a
// failure.
func (d *Display) Close() error {
	d.finish()
	return d.flush()
}

func (d *Display) flush() error {
	_, err := d.out.Write(d.buf.Bytes())
	d.buf.Reset()
	return err
}

// line prints a report as a line.
func (d *Display) line(m jsonstream.Message) {
	switch {
	case m.Stream != "":
		d.buf.WriteString(format.EscapeLines(m.Stream))
	case m.Progress != nil && counts(m.Progress):
	case m.ID != "":
		fmt.Fprintf(&d.buf, "%s: %s\n", format.Escape(m.ID), format.Escape(m.Status))
	case m.Status != "":
		fmt.Fprintf(&d.buf, "%s\n", format.EscapeLines(m.Status))
	}
}

// update changes the row of a part, or adds one.
func (d *Display) update(m jsonstream.Message) {
	lines, cols := d.screen()
	d.fit(lines)
	p, known := d.parts[m.ID]
	if !known {
		p = &part{id: m.ID}
		d.parts[m.ID] = p
	}
	p.status, p.progress = m.Status, m.Progress
	switch i := slices.Index(d.shown, p); {
	case i >= 0:
		d.redraw(len(d.shown)-i, cols)
	case known:
	case len(d.shown) < lines:
		d.shown = append(d.shown, p)
		d.draw(p, cols)
	default:
		d.waiting = append(d.waiting, p)
	}
	d.admit(cols)
}

// screen is how many rows fit, and how wide they may be.
func (d *Display) screen() (lines, cols int) {
	lines, cols = d.size()
	if lines <= 0 {
		lines = 24
	}
	if cols <= 0 {
		cols = 80
	}
	return max(lines-1, 1), max(cols-1, 1) // the cursor's line; a full line may wrap
}

// fit gives up the rows that have left a screen which has become smaller.
func (d *Display) fit(lines int) {
	gone := len(d.shown) - lines
	if gone <= 0 {
		return
	}
	for _, p := range d.shown[:gone] {
		if !p.complete() {
			d.waiting = append(d.waiting, p)
		}
	}
	d.shown = slices.Clone(d.shown[gone:])
}

// admit lets complete parts leave the screen for those that wait.
func (d *Display) admit(cols int) {
	for len(d.waiting) > 0 {
		i := slices.IndexFunc(d.shown, (*part).complete)
		if i < 0 {
			return
		}
		leaving, n := d.shown[i], len(d.shown)
		d.shown = append(slices.Delete(d.shown, i, i+1), d.waiting[0])
		d.waiting = d.waiting[1:]
		fmt.Fprintf(&d.buf, "\x1b[%dA", n)
		d.draw(leaving, cols)
		for _, p := range d.shown {
			d.draw(p, cols)
		}
	}
}

// redraw draws the row that is up lines above the cursor.
func (d *Display) redraw(up, cols int) {
	fmt.Fprintf(&d.buf, "\x1b[%dA", up)
	d.draw(d.shown[len(d.shown)-up], cols)
	if up > 1 {
		fmt.Fprintf(&d.buf, "\x1b[%dB", up-1)
	}
}

// draw draws a row in the cursor's line and leaves the cursor in the next.
func (d *Display) draw(p *part, cols int) {
	fmt.Fprintf(&d.buf, "\r\x1b[2K%s\n", p.text(cols))
}

// finish leaves the rows as they are, with those that wait below.
func (d *Display) finish() {
	if d.size != nil && len(d.waiting) > 0 {
		_, cols := d.screen()
		for _, p := range d.waiting {
			d.draw(p, cols)
		}
	}
	d.shown, d.waiting = nil, nil
	clear(d.parts)
}

// complete reports whether nothing more is expected of a part.
func (p *part) complete() bool {
	switch p.status {
	case "Pull complete", "Already exists", "Pushed", "Layer already exists":
		return true
	}
	return strings.HasPrefix(p.status, "Mounted from ") || strings.HasPrefix(p.status, "Skipped ")
}

// text is the row of a part, at most cols wide.
func (p *part) text(cols int) string {
	text := []rune(format.Escape(p.id) + ": " + format.Escape(p.status))
	if p.progress != nil && counts(p.progress) {
		text = append(text, []rune(" "+bar(p.progress, cols-len(text)-1))...)
	}
	return string(text[:min(len(text), cols)])
}
