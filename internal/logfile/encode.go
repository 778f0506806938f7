package logfile

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"time"
	"unicode/utf8"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks (in the high bit of each byte of x) the bytes that cannot stand
// in a JSON string as Docker writes it: controls, `"`, `\`, `<`, `>`, `&` and
// everything beyond ASCII. The lowest mark is exact; marks above it may be false.
func special(x uint64) uint64 {
	below := (x - 0x20*ones) &^ x        // < 0x20
	angle := (x | 0x02*ones) ^ 0x3e*ones // '<' 0x3c, '>' 0x3e
	quote := (x | 0x04*ones) ^ 0x26*ones // '"' 0x22, '&' 0x26
	slash := x ^ 0x5c*ones               // '\'
	zero := (angle-ones)&^angle | (quote-ones)&^quote | (slash-ones)&^slash
	return (below | zero | x) & highs
}

// plain returns how many bytes at the start of s go into the log as they are.
func plain(s []byte) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		if m := special(binary.LittleEndian.Uint64(s[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(s); i++ {
		if special(uint64(s[i])|'a'*(ones&^0xff)) != 0 {
			break
		}
	}
	return i
}

const hex = "0123456789abcdef"

// appendString appends s as the inside of a JSON string, byte for byte as
// Docker does: bytes that are not UTF-8 become U+FFFD, HTML's characters and
// the two line separators are escaped.
func appendString(dst, s []byte) []byte {
	for len(s) > 0 {
		n := plain(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			break
		}
		if c := s[0]; c < utf8.RuneSelf {
			dst = appendEscape(dst, c)
			s = s[1:]
			continue
		}
		r, size := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, `\ufffd`...)
		case r == '\u2028', r == '\u2029':
			dst = append(dst, `\u202`...)
			dst = append(dst, hex[r&0xf])
		default:
			dst = append(dst, s[:size]...)
		}
		s = s[size:]
	}
	return dst
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
}

// lineTail returns what follows the text in each line of one read: the stream,
// the attributes and the time are the same for all of them.
func lineTail(dst []byte, s Stream, attrs []byte, now time.Time) []byte {
	dst = append(dst, `","stream":"`...)
	dst = append(dst, s.String()...)
	dst = append(dst, '"')
	if len(attrs) > 0 {
		dst = append(dst, `,"attrs":`...)
		dst = append(dst, attrs...)
	}
	dst = append(dst, `,"time":"`...)
	dst = now.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, "\"}\n"...)
}

// encodeAttrs returns the attributes as JSON with sorted keys, nil if none.
func encodeAttrs(attrs map[string]string) []byte {
	if len(attrs) == 0 {
		return nil
	}
	b, err := json.Marshal(attrs)
	if err != nil {
		return nil // a map of strings always has a JSON form
	}
	return b
}
