package logfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"
)

// errLine says that a line of the file is not one of a log: torn by a crash or
// written by someone else. Readers skip it.
var errLine = errors.New("logfile: not a log line")

// parseLine reads one line (without its newline) into e. The text is unescaped
// in place, so line is spent afterwards. Lines as Writer writes them take a few
// nanoseconds for each hundred bytes; others go through encoding/json.
func parseLine(line []byte, e *Entry) error {
	if len(line) > 0 && line[0] != '{' {
		return parseText(line, e)
	}
	if parseFast(line, e) {
		return nil
	}
	return parseAny(line, e)
}

const (
	logKey    = `{"log":"`
	streamKey = `,"stream":"`
	attrsKey  = `,"attrs":`
	timeKey   = `,"time":"`
)

// parseFast reads the one form that Writer produces. It changes nothing unless
// it succeeds.
func parseFast(line []byte, e *Entry) bool {
	rest, ok := bytes.CutPrefix(line, []byte(logKey))
	if !ok {
		return false
	}
	n := closingQuote(rest)
	if n < 0 {
		return false
	}
	text := rest[:n]
	if rest, ok = bytes.CutPrefix(rest[n+1:], []byte(streamKey)); !ok {
		return false
	}
	var s Stream
	switch {
	case bytes.HasPrefix(rest, []byte(`stdout"`)):
		s = Stdout
	case bytes.HasPrefix(rest, []byte(`stderr"`)):
		s = Stderr
	default:
		return false
	}
	rest = rest[len(`stdout"`):]
	var attrs []byte
	if r, ok := bytes.CutPrefix(rest, []byte(attrsKey)); ok {
		n := bytes.LastIndex(r, []byte(timeKey))
		if n < 0 || !json.Valid(r[:n]) {
			return false
		}
		attrs, rest = r[:n], r[n:]
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(timeKey)); !ok || len(rest) < 2 || string(rest[len(rest)-2:]) != `"}` {
		return false
	}
	t, ok := parseTime(rest[:len(rest)-2])
	if !ok {
		return false
	}
	if text, ok = unescape(text); !ok {
		return false
	}
	e.Line, e.Stream, e.Time, e.Attrs = text, s, t, attrs
	return true
}

// closingQuote returns the index of the first quote that no backslash escapes.
func closingQuote(s []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(s[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		k := i
		for k > 0 && s[k-1] == '\\' {
			k--
		}
		if (i-k)%2 == 0 {
			return i
		}
		i++
	}
}

// unescape turns the inside of a JSON string into its text, in place. It
// refuses, before it changes a byte, what Writer never writes.
func unescape(s []byte) ([]byte, bool) {
	i := bytes.IndexByte(s, '\\')
	if i < 0 {
		return s, true
	}
	if i == len(s)-2 && s[i+1] == 'n' { // nearly every line
		s[i] = '\n'
		return s[:i+1], true
	}
	if !escapesKnown(s[i:]) {
		return nil, false
	}
	out := s[:i]
	for s = s[i:]; len(s) > 0; {
		if s[0] != '\\' {
			n := bytes.IndexByte(s, '\\')
			if n < 0 {
				n = len(s)
			}
			out = append(out, s[:n]...)
			s = s[n:]
			continue
		}
		if s[1] == 'u' {
			out = utf8.AppendRune(out, hexRune(s[2:6]))
			s = s[6:]
			continue
		}
		out = append(out, escapes[s[1]])
		s = s[2:]
	}
	return out, true
}

// escapes maps the letter of a short escape to its byte.
var escapes = [256]byte{'n': '\n', 't': '\t', 'r': '\r', 'b': '\b', 'f': '\f', '"': '"', '\\': '\\', '/': '/'}

// escapesKnown reports whether every escape in s is complete and stands for one
// character of the basic plane.
func escapesKnown(s []byte) bool {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return true
		}
		if s = s[i+1:]; len(s) == 0 {
			return false
		}
		switch {
		case s[0] == 'u':
			if len(s) < 5 {
				return false
			}
			// A surrogate is half a character: not ours, encoding/json knows.
			if r := hexRune(s[1:5]); r < 0 || 0xd800 <= r && r < 0xe000 {
				return false
			}
			s = s[5:]
		case escapes[s[0]] != 0:
			s = s[1:]
		default:
			return false
		}
	}
}

// hexRune reads four hexadecimal digits, -1 if they are not.
func hexRune(s []byte) rune {
	var r rune
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// parseTime reads RFC 3339 in UTC with up to nine decimals.
func parseTime(s []byte) (time.Time, bool) {
	if len(s) < 20 || len(s) > 30 || s[len(s)-1] != 'Z' {
		return time.Time{}, false
	}
	if s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return time.Time{}, false
	}
	year, ok1 := digits(s[0:4])
	month, ok2 := digits(s[5:7])
	day, ok3 := digits(s[8:10])
	hour, ok4 := digits(s[11:13])
	minute, ok5 := digits(s[14:16])
	sec, ok6 := digits(s[17:19])
	ok := ok1 && ok2 && ok3 && ok4 && ok5 && ok6 &&
		month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour < 24 && minute < 60 && sec < 60
	if !ok {
		return time.Time{}, false
	}
	nano, ok := fraction(s[19 : len(s)-1])
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(days(year, month, day)*86400+int64(hour*3600+minute*60+sec), int64(nano)).UTC(), true
}

func digits(s []byte) (int, bool) {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// fraction reads ".123" as nanoseconds; nothing is none.
func fraction(s []byte) (int, bool) {
	if len(s) == 0 {
		return 0, true
	}
	if s[0] != '.' || len(s) < 2 {
		return 0, false
	}
	n, ok := digits(s[1:])
	for i := len(s) - 1; i < 9; i++ {
		n *= 10
	}
	return n, ok
}

// days returns the days from 1970-01-01 to a date of the Gregorian calendar,
// counted in years that begin in March, so that the leap day comes last.
func days(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	ofEra := year - era*400
	ofYear := (153*(month-3)+2)/5 + day - 1
	return int64(era*146097 + ofEra*365 + ofEra/4 - ofEra/100 + ofYear - 719468)
}

// parseAny reads any JSON form of a log line.
func parseAny(line []byte, e *Entry) error {
	var v struct {
		Log    string          `json:"log"`
		Stream string          `json:"stream"`
		Attrs  json.RawMessage `json:"attrs"`
		Time   time.Time       `json:"time"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return errLine
	}
	e.Line, e.Stream, e.Time, e.Attrs = []byte(v.Log), Stdout, v.Time, v.Attrs
	if v.Stream == Stderr.String() {
		e.Stream = Stderr
	}
	return nil
}
