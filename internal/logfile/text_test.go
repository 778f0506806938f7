package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func textLog(t testing.TB, o Options) (*Writer, string) {
	o.Format = Text
	return newLog(t, o)
}

func TestTextKeepsBytes(t *testing.T) {
	w, dir := textLog(t, Options{Attrs: map[string]string{"not": "here"}})
	raw := "a\"\\<>\x00\x1f\xff\xfe\r ü\n"
	at := time.Date(2026, 2, 3, 4, 5, 6, 78900000, time.FixedZone("x", 3600))
	if err := w.Write(Stderr, []byte(raw), at); err != nil {
		t.Fatal(err)
	}
	write(t, w, Stdout, "\nF x\n")
	got, err := os.ReadFile(filepath.Join(dir, testName))
	if err != nil {
		t.Fatal(err)
	}
	if want := "2026-02-03T03:05:06.0789Z stderr F " + raw; !strings.HasPrefix(string(got), want) {
		t.Errorf("file %q", got)
	}
	if got := readAll(t, openReader(t, dir)); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", []string{raw, "\n", "F x\n"}) {
		t.Errorf("read %q", got)
	}
}

func TestTextLongLinesComeInPieces(t *testing.T) {
	w, dir := textLog(t, Options{})
	long := strings.Repeat("x", 40000)
	for _, s := range []string{long[:1], long[1:20000], long[20000:], "\nshort\n", strings.Repeat("y", maxLine), "\n", "end"} {
		write(t, w, Stdout, s)
	}
	if err := w.Flush(Stdout, time.Now()); err != nil {
		t.Fatal(err)
	}
	var lens []int
	for _, l := range readAll(t, openReader(t, dir)) {
		lens = append(lens, len(l))
	}
	if got, want := fmt.Sprint(lens), "[16384 16384 7233 6 16384 1 3]"; got != want {
		t.Errorf("pieces of %s bytes, want %s", got, want)
	}
}

func TestTextRotates(t *testing.T) {
	w, dir := textLog(t, Options{MaxSize: 1000, MaxFiles: 3, Compress: true})
	r := openReader(t, dir) // holds what rotation removes
	for i := range 500 {
		write(t, w, Stdout, fmt.Sprintf("line %03d\n", i))
		if i == 0 {
			readAll(t, r)
		}
	}
	if got, want := names(t, dir), " .1.gz .2.gz .index"; got != want {
		t.Errorf("files %q, want %q", got, want)
	}
	got := readAll(t, openReader(t, dir))
	if len(got) < 40 || got[len(got)-1] != "line 499\n" {
		t.Fatalf("%d lines, the last %q", len(got), got[len(got)-1])
	}
	for i, l := range got {
		if want := fmt.Sprintf("line %03d\n", 500-len(got)+i); l != want {
			t.Fatalf("line %d is %q, want %q", i, l, want)
		}
	}
	tail := openReader(t, dir)
	if err := tail.SeekTail(7); err != nil {
		t.Fatal(err)
	}
	if l := readAll(t, tail); len(l) != 7 || l[0] != "line 493\n" {
		t.Errorf("tail %q", l)
	}
}

func TestTextTornLineIsRepaired(t *testing.T) {
	w, dir := textLog(t, Options{})
	write(t, w, Stdout, "one\ntwo\n")
	w.Suspend()
	path := filepath.Join(dir, testName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole[:len(whole)-2], 0o600); err != nil {
		t.Fatal(err)
	}
	w = openLog(t, dir, Options{Format: Text})
	write(t, w, Stdout, "three\n")
	if got := readAll(t, openReader(t, dir)); fmt.Sprint(got) != "[one\n three\n]" {
		t.Errorf("after repair %q", got)
	}
}

func TestTextLossAfterAPiece(t *testing.T) {
	full := error(nil)
	w, dir := failing(t, &full)
	w.o.Format = Text
	write(t, w, Stdout, strings.Repeat("x", maxLine))
	w.Suspend()
	full = syscall.ENOSPC
	_ = w.Write(Stdout, []byte("y\n"), time.Now())
	full = nil
	write(t, w, Stdout, "z\n")
	want := strings.Repeat("x", maxLine) + "\n1 line of output was lost: no space left on device\nz\n"
	if got := strings.Join(readAll(t, openReader(t, dir)), ""); got != want {
		t.Errorf("log %q", got)
	}
}

func TestStrangeTextIsSkipped(t *testing.T) {
	w, dir := textLog(t, Options{})
	write(t, w, Stdout, "one\n")
	f, err := os.OpenFile(filepath.Join(dir, testName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"x", "2026-02-03T03:05:06Z", "2026-02-03T03:05:06Z stdout", "2026-02-03T03:05:06Z stdout F", "2026-02-03T03:05:06Z stdin F x",
		"2026-02-03T03:05:06Z stdout X x", "2026-02-30 stdout F x", "", " ", "2026-02-03T03:05:06Z  F x"} {
		if _, err := fmt.Fprintln(f, bad); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	if got := readAll(t, openReader(t, dir)); fmt.Sprint(got) != "[one\n]" {
		t.Errorf("read %q", got)
	}
}
