// Package format prints lists and objects the way docker's command line does:
// as tables, as JSON, or through Go templates, for the --format flag.
//
// A list is a slice of rows. What templates and JSON see of a row is said by its
// Fields, the default table by its columns:
//
//	func (r row) ID() string
//	fields := format.Fields[row]{"*formatter.Row", []format.Field[row]{format.Text("ID", "", row.ID)}}
//
//	format.Print(out, "table {{.ID}}", columns, fields, rows)
//
// # What others wrote
//
// Names, labels, commands and error texts were chosen by whoever made an image
// or a container. A terminal obeys the control characters in them, so tables
// and messages show these as \x1b (see Escape). JSON is escaped without loss.
// The output of containers themselves never passes through here.
package format

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Escape shows control characters (C0, DEL, C1) and bytes that are not UTF-8
// as \x1b. What is printed then moves no cursor and breaks no line.
func Escape(s string) string { return escape(s, "") }

// EscapeLines is Escape for texts of several lines: \n and \t stay.
func EscapeLines(s string) string { return escape(s, "\n\t") }

func escape(s, keep string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case control(r) && !strings.ContainsRune(keep, r):
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// plain reports whether all of s is printable ASCII, as nearly all of it is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func control(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// EscapeJSON writes the control characters that encoders of JSON leave alone
// (DEL and C1) as \u009b: the same document, harmless on a terminal.
func EscapeJSON(b []byte) []byte {
	var out []byte
	done := 0
	for i := 0; i < len(b); {
		r, n := rune(b[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(b[i:])
		}
		if r >= 0x7f && r < 0xa0 {
			out = append(out, b[done:i]...)
			out = fmt.Appendf(out, `\u%04x`, r)
			done = i + n
		}
		i += n
	}
	if done == 0 {
		return b
	}
	return append(out, b[done:]...)
}
