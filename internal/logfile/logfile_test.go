package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const testName = "abc-json.log"

func newLog(t testing.TB, o Options) (*Writer, string) {
	t.Helper()
	dir := t.TempDir()
	return openLog(t, dir, o), dir
}

func openLog(t testing.TB, dir string, o Options) *Writer {
	w := NewWriter(func() (*os.Root, error) { return os.OpenRoot(dir) }, testName, o)
	t.Cleanup(func() { w.Suspend() })
	return w
}

func openReader(t testing.TB, dir string) *Reader {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(root, testName)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func write(t testing.TB, w *Writer, s Stream, text string) {
	t.Helper()
	if err := w.Write(s, []byte(text), time.Now()); err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, r *Reader) (lines []string) {
	t.Helper()
	var e Entry
	for {
		err := r.Next(&e)
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(e.Line))
	}
}

func names(t testing.TB, dir string) string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var n []string
	for _, e := range es {
		n = append(n, strings.TrimPrefix(e.Name(), testName))
	}
	return strings.Join(n, " ")
}

func TestFormatIsDockers(t *testing.T) {
	w, dir := newLog(t, Options{Attrs: map[string]string{"b": "2", "a": "<"}})
	at := time.Date(2026, 2, 3, 4, 5, 6, 78900000, time.FixedZone("x", 3600))
	if err := w.Write(Stderr, []byte("a\"\\<>&\t\x00\x1f\x7f\xff\u2028ü€😀\r\n"), at); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, testName))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"log":"a\"\\\u003c\u003e\u0026\t\u0000\u001f` + "\x7f" + `\ufffd\u2028ü€😀\r\n","stream":"stderr",` +
		`"attrs":{"a":"\u003c","b":"2"},"time":"2026-02-03T03:05:06.0789Z"}` + "\n"
	if string(got) != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestLongLinesComeInPieces(t *testing.T) {
	w, dir := newLog(t, Options{})
	long := strings.Repeat("x", 40000)
	for _, s := range []string{long[:1], long[1:20000], long[20000:], "\nshort\n", strings.Repeat("y", maxLine), "\n"} {
		write(t, w, Stdout, s)
	}
	var lens []int
	for _, l := range readAll(t, openReader(t, dir)) {
		lens = append(lens, len(l))
	}
	if got, want := fmt.Sprint(lens), "[16384 16384 7233 6 16384 1]"; got != want {
		t.Errorf("pieces of %s bytes, want %s", got, want)
	}
}

func TestPiecesDoNotCutCharacters(t *testing.T) {
	for shift := range 5 {
		w, dir := newLog(t, Options{})
		text := strings.Repeat("a", shift) + strings.Repeat("😀", 10000) + "\n"
		for i := 0; i < len(text); i += 7001 {
			write(t, w, Stdout, text[i:min(len(text), i+7001)])
		}
		if got := strings.Join(readAll(t, openReader(t, dir)), ""); got != text {
			t.Errorf("shift %d: text differs", shift)
		}
	}
}

func TestUnfinishedLineWaitsForFlush(t *testing.T) {
	w, dir := newLog(t, Options{})
	write(t, w, Stdout, "out")
	write(t, w, Stderr, "err\n")
	p, err := w.Position()
	if err != nil {
		t.Fatal(err)
	}
	r := openReader(t, dir)
	if got := readAll(t, r); fmt.Sprint(got) != "[err\n]" || r.Position() != p {
		t.Errorf("read %q to %v, writer is at %v", got, r.Position(), p)
	}
	if string(w.Tail(Stdout)) != "out" {
		t.Errorf("tail %q", w.Tail(Stdout))
	}
	if err := w.Flush(Stdout, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r); fmt.Sprint(got) != "[out]" {
		t.Errorf("after flush %q", got)
	}
}

func TestSeek(t *testing.T) {
	for _, gz := range []bool{false, true} {
		w, dir := newLog(t, Options{MaxSize: 1 << 20, MaxFiles: 5, Compress: gz})
		base := time.Unix(1000, 0)
		var positions []Position
		const n = 30000
		for i := range n {
			if i%1000 == 0 {
				p, err := w.Position()
				if err != nil {
					t.Fatal(err)
				}
				positions = append(positions, p)
			}
			if err := w.Write(Stdout, fmt.Appendf(nil, "%05d %s\n", i, strings.Repeat("x", 50)), base.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		first := func(seek func(r *Reader) error) (no, left int) {
			r := openReader(t, dir)
			if err := seek(r); err != nil {
				t.Fatal(err)
			}
			l := readAll(t, r)
			if len(l) == 0 {
				return -1, 0
			}
			fmt.Sscan(l[0], &no)
			return no, len(l)
		}
		for _, tail := range []int64{0, 1, 7, 999, 12345} {
			no, left := first(func(r *Reader) error { return r.SeekTail(tail) })
			if left != int(tail) || tail > 0 && no != n-int(tail) {
				t.Errorf("gz %v: tail %d begins at %d, %d lines", gz, tail, no, left)
			}
		}
		if no, left := first(func(r *Reader) error { return r.SeekTail(1 << 40) }); left != n-no || no > n-20000 {
			t.Errorf("tail of all: from %d, %d lines", no, left)
		}
		for i, p := range positions {
			if no, _ := first(func(r *Reader) error { return r.SeekPosition(p) }); no != i*1000 && no > n/2 {
				t.Errorf("gz %v: position %d begins at %d", gz, i, no)
			}
		}
		for _, sec := range []int{12000, 20000, 29999} {
			no, _ := first(func(r *Reader) error { return r.SeekTime(base.Add(time.Duration(sec) * time.Second)) })
			if no > sec || sec-no > 6000 {
				t.Errorf("gz %v: since %d begins at %d", gz, sec, no)
			}
		}
	}
}

func TestTornLineIsRepaired(t *testing.T) {
	w, dir := newLog(t, Options{})
	write(t, w, Stdout, "one\ntwo\n")
	w.Suspend()
	path := filepath.Join(dir, testName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole) - 1; cut > bytes.IndexByte(whole, '\n')+1; cut -= 7 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, openReader(t, dir)); fmt.Sprint(got) != "[one\n]" {
			t.Errorf("cut at %d: read %q", cut, got)
		}
		w := openLog(t, dir, Options{})
		write(t, w, Stdout, "three\n")
		if got := readAll(t, openReader(t, dir)); fmt.Sprint(got) != "[one\n three\n]" {
			t.Errorf("cut at %d: after repair %q", cut, got)
		}
		w.Suspend()
	}
}

func TestUnwritableLogCountsLines(t *testing.T) {
	boom := errors.New("boom")
	w := NewWriter(func() (*os.Root, error) { return nil, boom }, testName, Options{})
	if err := w.Write(Stdout, []byte("a\nb\nc"), time.Now()); err != boom {
		t.Errorf("error %v", err)
	}
	if l := w.Loss(); l.Lines != 2 || l.Unnoted() != 2 || l.Reason != "boom" {
		t.Errorf("%+v", l)
	}
}
