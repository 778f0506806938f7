package dm

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Line is a line of a table, or of its status.
type Line struct {
	Start, Length uint64 // sectors of 512 bytes
	Type          string // of the target
	// Params are what the target takes, or what it says. They may contain a key:
	// print Line, which hides it, and Wipe what is not needed any more.
	Params []byte
}

// Parameterised is a target of package target, or another type with the same ideas.
type Parameterised interface {
	Type() string
	AppendParams([]byte) []byte
}

// LineOf is the line for a target.
func LineOf(start, length uint64, t Parameterised) Line {
	return Line{Start: start, Length: length, Type: t.Type(), Params: t.AppendParams(nil)}
}

// String is the line as dmsetup prints it, with zeros in place of keys.
func (l Line) String() string {
	return string(l.appendHead(nil)) + string(Hide(l.Type, l.Params))
}

// Format is String, too: no verb of fmt shows a key.
func (l Line) Format(f fmt.State, _ rune) { io.WriteString(f, l.String()) }

// MarshalText is String, too.
func (l Line) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Reveal is the line with its keys. The caller wipes it.
func (l Line) Reveal() []byte { return append(l.appendHead(nil), l.Params...) }

func (l Line) appendHead(b []byte) []byte {
	return fmt.Appendf(b, "%d %d %s ", l.Start, l.Length, l.Type)
}

// Wipe clears the parameters.
func (l Line) Wipe() { clear(l.Params) }

// Table is what is behind a device's sectors, in their order and without gaps.
type Table []Line

// Wipe clears all parameters.
func (t Table) Wipe() {
	for _, l := range t {
		l.Wipe()
	}
}

// Length is the device's size, in sectors.
func (t Table) Length() (n uint64) {
	for _, l := range t {
		n += l.Length
	}
	return n
}

func (t Table) String() string {
	var b strings.Builder
	for i, l := range t {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l.String())
	}
	return b.String()
}

// Hide returns a copy of a target's parameters in which each character of a key is
// a zero. References to keys that the kernel's key ring has are no keys.
func Hide(target string, params []byte) []byte {
	b := bytes.Clone(params)
	switch target {
	case "crypt":
		if i := bytes.IndexByte(b, ' '); i >= 0 {
			zero(b[i+1:])
		}
	case "integrity":
		for _, option := range []string{"internal_hash:", "journal_crypt:", "journal_mac:"} {
			hideOption(b, option)
		}
	}
	return b
}

// zero overwrites a word, if it is a key.
func zero(b []byte) {
	if len(b) == 0 || b[0] == ':' {
		return
	}
	for i := 0; i < len(b) && b[i] != ' '; i++ {
		b[i] = '0'
	}
}

// hideOption overwrites what follows an algorithm: NAME:ALGORITHM:KEY.
func hideOption(b []byte, option string) {
	_, rest, ok := bytes.Cut(b, []byte(option))
	if !ok {
		return
	}
	i := bytes.IndexAny(rest, " :")
	if i < 0 || rest[i] != ':' {
		return
	}
	for i++; i < len(rest) && rest[i] != ' '; i++ {
		rest[i] = '0'
	}
}

// SyntaxError is a line that is none of a table.
type SyntaxError struct {
	Line int    // from 1
	Why  string // which part is missing or wrong; never the line, in which a key may be
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d of the table: %s; START LENGTH TARGET PARAMETERS is needed", e.Line, e.Why)
}

// ParseTable reads lines START LENGTH TARGET [PARAMETERS]. What follows a # is left
// out, and so are empty lines. The result shares no memory with what is parsed.
func ParseTable(b []byte) (Table, error) {
	var t Table
	for n := 1; len(b) > 0; n++ {
		var row []byte
		row, b, _ = bytes.Cut(b, []byte{'\n'})
		l, why := parseLine(row)
		if why != "" {
			t.Wipe()
			return nil, &SyntaxError{n, why}
		}
		if l != nil {
			t = append(t, *l)
		}
	}
	return t, nil
}

// parseLine reads one line, or none, if it is empty; why says what is wrong with it.
func parseLine(row []byte) (l *Line, why string) {
	row = bytes.Trim(row, space)
	if len(row) == 0 || row[0] == '#' {
		return nil, ""
	}
	l = &Line{}
	var ok bool
	if l.Start, row, ok = number(row); !ok {
		return nil, "the first sector is no number"
	}
	if l.Length, row, ok = number(row); !ok {
		return nil, "the length is no number"
	}
	row = bytes.TrimLeft(row, space)
	end := bytes.IndexAny(row, space)
	if end < 0 {
		end = len(row)
	}
	if l.Type = string(row[:end]); l.Type == "" {
		return nil, "there is no target"
	}
	params, _, _ := bytes.Cut(bytes.TrimLeft(row[end:], space), []byte{'#'})
	l.Params = bytes.Clone(params)
	return l, ""
}

// space is what separates words.
const space = " \t\n\v\f\r"

// number reads digits, as far as there are any; others may follow directly.
func number(b []byte) (n uint64, rest []byte, ok bool) {
	b = bytes.TrimLeft(b, space)
	i := 0
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	n, err := strconv.ParseUint(string(b[:i]), 10, 64)
	return n, b[i:], err == nil
}

// encode is the table as the driver takes it. It takes a backslash for a quote, so
// each is doubled.
func (t Table) encode() ([]byte, error) {
	size := 0
	for _, l := range t {
		if len(l.Type) == 0 || len(l.Type) >= typeSize {
			return nil, fmt.Errorf("the name of the target, %q, has not 1 to %d bytes", l.Type, typeSize-1)
		}
		if strings.IndexByte(l.Type, 0) >= 0 || bytes.IndexByte(l.Params, 0) >= 0 {
			return nil, fmt.Errorf("target %q or its parameters contain a zero", l.Type)
		}
		size += align(lineHeader + len(l.Params) + bytes.Count(l.Params, []byte{'\\'}) + 1)
	}
	b := make([]byte, size)
	at := b
	for _, l := range t {
		native.PutUint64(at, l.Start)
		native.PutUint64(at[8:], l.Length)
		copy(at[24:lineHeader], l.Type)
		end := lineHeader
		for _, c := range l.Params {
			if c == '\\' {
				at[end] = c
				end++
			}
			at[end] = c
			end++
		}
		end = align(end + 1)
		native.PutUint32(at[20:], uint32(end))
		at = at[end:]
	}
	return b, nil
}

// lines are those of an answer.
func (a *answer) lines() (Table, error) {
	b, err := a.data()
	if err != nil {
		return nil, err
	}
	return decodeLines(b, native.Uint32(a.buf[offTargets:]))
}

func decodeLines(b []byte, n uint32) (t Table, err error) {
	at := uint32(0)
	for range n {
		if uint64(at)+lineHeader > uint64(len(b)) {
			t.Wipe()
			return nil, errAnswer
		}
		l := b[at:]
		params, _, _ := bytes.Cut(l[lineHeader:], []byte{0})
		t = append(t, Line{Start: native.Uint64(l), Length: native.Uint64(l[8:]), Type: text(l[24:lineHeader]), Params: bytes.Clone(params)})
		at = native.Uint32(l[20:])
	}
	return t, nil
}
