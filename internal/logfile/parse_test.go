package logfile

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParseAcceptsAnyJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"log":"a\n","stream":"stderr","time":"2026-01-02T03:04:05Z"}`, "a\n stderr 1767323045"},
		{`{"time":"2026-01-02T04:04:05.000+01:00", "stream":"stdout", "log":"\ud83d\ude00\/"}`, "😀/ stdout 1767323045"},
		{`{"log":"\ud83d\ude00\u00e9","stream":"stdout","time":"2026-01-02T03:04:05Z"}`, "😀é stdout 1767323045"},
		{`{"stream":"stdout","time":"2026-01-02T03:04:05Z"}`, " stdout 1767323045"},
		{`{"log":"a\n","stream":"std`, "error"},
		{`{"log":"a\x","stream":"stdout","time":"2026-01-02T03:04:05Z"}`, "error"},
	} {
		var e Entry
		got := "error"
		if parseLine([]byte(c.in), &e) == nil {
			got = fmt.Sprintf("%s %s %d", e.Line, e.Stream, e.Time.Unix())
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestParseTimeAgreesWithTime(t *testing.T) {
	for _, at := range []time.Time{time.Unix(0, 0), time.Unix(951782399, 999999999), time.Unix(951782400, 1), time.Unix(4107542400, 120), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 5, time.UTC)} {
		s := at.UTC().Format(time.RFC3339Nano)
		if got, ok := parseTime([]byte(s)); !ok || !got.Equal(at) {
			t.Errorf("%s: %v, %v", s, got, ok)
		}
	}
}

func FuzzJSONLog(f *testing.F) {
	f.Add([]byte("hello\nworld"), uint16(3), uint16(0))
	f.Add([]byte("\xff\xc3\n\u2028<>&\"\\\x00"), uint16(1), uint16(100))
	f.Add(bytes.Repeat([]byte("\xe2\x82\xac"), 9000), uint16(1000), uint16(2000))
	f.Fuzz(func(t *testing.T, text []byte, chunk, size uint16) {
		w, dir := newLog(t, Options{MaxSize: int64(size), MaxFiles: 3})
		r := openReader(t, dir)
		var got []string
		for rest := text; len(rest) > 0; {
			n := min(len(rest), int(chunk)+1)
			write(t, w, Stdout, string(rest[:n]))
			rest = rest[n:]
			if len(rest)/100%2 == 0 {
				got = append(got, readAll(t, r)...)
			}
		}
		if err := w.Flush(Stdout, time.Now()); err != nil {
			t.Fatal(err)
		}
		got = append(got, readAll(t, r)...)
		all := strings.Join(got, "")
		if size == 0 && all != replaced(text) {
			t.Errorf("read %q, wrote %q", all, text)
		}
	})
}

// replaced gives text with U+FFFD for each byte that is not UTF-8, piece by
// piece as the writer sees it.
func replaced(text []byte) string {
	var b strings.Builder
	for len(text) > 0 {
		n := bytes.IndexByte(text[:min(len(text), maxLine)], '\n') + 1
		if n == 0 {
			if n = len(text); n >= maxLine {
				n = runeCut(text[:maxLine])
			}
		}
		for _, r := range string(text[:n]) {
			b.WriteRune(r)
		}
		text = text[n:]
	}
	return b.String()
}
