package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
