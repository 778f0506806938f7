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

func TestRotationKeepsFiles(t *testing.T) {
	for _, gz := range []bool{false, true} {
		w, dir := newLog(t, Options{MaxSize: 1000, MaxFiles: 3, Compress: gz})
		r := openReader(t, dir)
		var all []string
		for i := range 200 {
			line := fmt.Sprintf("line %d of the log\n", i)
			write(t, w, Stdout, line)
			all = append(all, line)
		}
		want := " .1 .2 .index"
		if gz {
			want = " .1.gz .2.gz .index"
		}
		if got := names(t, dir); got != want {
			t.Errorf("files %q, want %q", got, want)
		}
		got := readAll(t, r)
		if len(got) < 25 || fmt.Sprint(got) != fmt.Sprint(all[200-len(got):]) {
			t.Errorf("gz %v: read %d lines, not the last ones", gz, len(got))
		}
		fi, err := os.Stat(filepath.Join(dir, testName))
		if err != nil || fi.Size() > 1200 {
			t.Errorf("live file: %v, %v", fi.Size(), err)
		}
	}
}

func TestOneFileIsReplaced(t *testing.T) {
	w, dir := newLog(t, Options{MaxSize: 500})
	for i := range 100 {
		write(t, w, Stdout, fmt.Sprintf("line %d\n", i))
	}
	if got := names(t, dir); got != " .index" {
		t.Errorf("files %q", got)
	}
	got := readAll(t, openReader(t, dir))
	if len(got) == 0 || got[len(got)-1] != "line 99\n" {
		t.Errorf("read %q", got)
	}
}

func TestReaderFollowsRotations(t *testing.T) {
	w, dir := newLog(t, Options{MaxSize: 400, MaxFiles: 2})
	write(t, w, Stdout, "first\n")
	r := openReader(t, dir)
	got := readAll(t, r)
	for i := range 300 {
		write(t, w, Stdout, fmt.Sprintf("line %d\n", i))
		if i%3 == 0 {
			got = append(got, readAll(t, r)...)
		}
	}
	got = append(got, readAll(t, r)...)
	if len(got) != 301 || got[300] != "line 299\n" {
		t.Errorf("read %d lines, last %q", len(got), got[len(got)-1])
	}
	p, err := w.Position()
	if err != nil || r.Position() != p {
		t.Errorf("reader at %v, writer at %v, %v", r.Position(), p, err)
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

// A rotation that stops after any of its steps is finished by the next writer,
// and a reader that was there before loses nothing.
func TestInterruptedRotation(t *testing.T) {
	for step := range 5 {
		w, dir := newLog(t, Options{MaxSize: 1 << 20, MaxFiles: 3})
		for _, l := range []string{"a\n", "b\n", "c\n"} {
			write(t, w, Stdout, l)
			if l != "c\n" {
				if err := w.rotate(0); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := openReader(t, dir)
		// the steps of rotate, by hand
		f, err := w.dir.Create(testName + newSuffix)
		if err != nil {
			t.Fatal(err)
		}
		fi, _ := f.Stat()
		f.Close()
		path := func(s string) string { return filepath.Join(dir, testName+s) }
		steps := []func() error{
			func() error {
				return replaceIndex(w.dir, testName, append(w.marks.from(2), mark{Generation: 4, Inode: inodeOf(fi)}))
			},
			func() error { return os.Remove(path(".2")) },
			func() error { return os.Rename(path(".1"), path(".2")) },
			func() error { return os.Rename(path(""), path(".1")) },
		}
		for _, s := range steps[:step] {
			if err := s(); err != nil {
				t.Fatal(err)
			}
		}
		w.Suspend()
		if got := strings.Join(readAll(t, openReader(t, dir)), ""); got != "a\nb\nc\n" && (step == 0 || got != "b\nc\n") {
			t.Errorf("step %d: a new reader reads %q", step, got)
		}
		w = openLog(t, dir, Options{MaxSize: 1 << 20, MaxFiles: 3})
		write(t, w, Stdout, "d\n")
		if got := strings.Join(readAll(t, r), ""); got != "a\nb\nc\nd\n" {
			t.Errorf("step %d: the old reader reads %q", step, got)
		}
		if got := names(t, dir); got != " .1 .2 .index" {
			t.Errorf("step %d: files %q", step, got)
		}
	}
}

func TestLogOfAnotherEngine(t *testing.T) {
	dir := t.TempDir()
	for suffix, text := range map[string]string{".2": "a", ".1": "b", "": "c"} {
		line := fmt.Sprintf(`{"log":"%s\n","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}`+"\n", text)
		if err := os.WriteFile(filepath.Join(dir, testName+suffix), []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(readAll(t, openReader(t, dir)), ""); got != "a\nb\nc\n" {
		t.Errorf("read %q", got)
	}
	write(t, openLog(t, dir, Options{}), Stdout, "d\n")
	if got := strings.Join(readAll(t, openReader(t, dir)), ""); got != "a\nb\nc\nd\n" {
		t.Errorf("after a write %q", got)
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

func BenchmarkWrite(b *testing.B) {
	for name, line := range map[string]string{
		"100": strings.Repeat("The quick brown fox ", 5)[:99] + "\n",
		"20":  "short line of text.\n", "binary": string(randomBytes(4096))} {
		b.Run(name, func(b *testing.B) {
			dir := "/dev/shm"
			tmp, err := os.MkdirTemp(dir, "logfile")
			if err != nil {
				b.Fatal(err)
			}
			defer os.RemoveAll(tmp)
			w := openLog(b, tmp, Options{MaxSize: 20 << 20, MaxFiles: 5})
			chunk := bytes.Repeat([]byte(line), 65536/len(line)+1)[:65536]
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if err := w.Write(Stdout, chunk, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func randomBytes(n int) []byte {
	x, b := uint32(1), make([]byte, n)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func BenchmarkRead(b *testing.B) {
	tmp, err := os.MkdirTemp("/dev/shm", "logfile")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	w := openLog(b, tmp, Options{})
	line := strings.Repeat("The quick brown fox ", 5)[:99] + "\n"
	chunk := bytes.Repeat([]byte(line), 655)
	const chunks = 400
	for range chunks {
		if err := w.Write(Stdout, chunk, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(chunks * len(chunk)))
	for b.Loop() {
		root, err := os.OpenRoot(tmp)
		if err != nil {
			b.Fatal(err)
		}
		r, err := Open(root, testName)
		if err != nil {
			b.Fatal(err)
		}
		var e Entry
		n := 0
		for r.Next(&e) == nil {
			n += len(e.Line)
		}
		if n != chunks*len(chunk) {
			b.Fatalf("read %d bytes", n)
		}
		r.Close()
	}
}
