package logfile

import (
	"bytes"
	"time"
)

// Format is how lines stand in the files of a log.
type Format byte

// Formats of a log. A reader recognizes each line's by itself.
const (
	JSON Format = iota // of Docker's driver json-file
	Text               // "TIME STREAM F|P TEXT", as Kubernetes keeps logs: bytes stay as they came
)

// A line of the format Text ends an output's line, or is a piece of a longer one.
const (
	fullMark  = 'F'
	pieceMark = 'P'
)

// textHead returns what precedes the mark in each line of one read.
func textHead(dst []byte, s Stream, now time.Time) []byte {
	dst = now.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, ' ')
	dst = append(dst, s.String()...)
	return append(dst, ' ')
}

// appendText appends one line in the format Text.
func appendText(dst, head, text []byte, ends bool) []byte {
	mark := byte(pieceMark)
	if ends {
		mark = fullMark
	}
	dst = append(append(dst, head...), mark, ' ')
	return append(append(dst, text...), '\n')
}

// parseText reads one line of the format Text (without its newline) into e.
func parseText(line []byte, e *Entry) error {
	stamp, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return errLine
	}
	t, ok := parseTime(stamp)
	if !ok {
		return errLine
	}
	name, rest, ok := bytes.Cut(rest, []byte{' '})
	if !ok || len(rest) < 2 || rest[1] != ' ' {
		return errLine
	}
	s := Stdout
	switch string(name) {
	case "stdout":
	case "stderr":
		s = Stderr
	default:
		return errLine
	}
	text := rest[2:]
	switch rest[0] {
	case fullMark:
		text = append(text, '\n')
	case pieceMark:
	default:
		return errLine
	}
	e.Line, e.Stream, e.Time, e.Attrs = text, s, t, nil
	return nil
}
