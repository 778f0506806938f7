package logfile

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failing is a writer whose directory cannot be opened while full.
func failing(t *testing.T, full *error) (w *Writer, dir string) {
	t.Helper()
	dir = t.TempDir()
	w = NewWriter(func() (*os.Root, error) {
		if *full != nil {
			return nil, *full
		}
		return os.OpenRoot(dir)
	}, testName, Options{})
	t.Cleanup(func() { w.Suspend() })
	return w, dir
}

func TestLossIsNotedWhereItWas(t *testing.T) {
	full := error(nil)
	w, dir := failing(t, &full)
	lost := func(text string) {
		t.Helper()
		w.Suspend()
		full = &os.PathError{Op: "open", Path: "/our/path", Err: syscall.ENOSPC}
		if err := w.Write(Stdout, []byte(text), time.Now()); err != full {
			t.Errorf("error %v", err)
		}
		full = nil
	}
	write(t, w, Stdout, "a\n")
	lost("b\nc\n")
	write(t, w, Stdout, "d\n")
	lost("e\n")
	if err := w.NoteLoss(time.Now()); err != nil {
		t.Error(err)
	}
	if err := w.NoteLoss(time.Now()); err != nil { // once is enough
		t.Error(err)
	}
	write(t, w, Stdout, strings.Repeat("x", maxLine)) // a piece of a line
	lost("y\n")
	write(t, w, Stdout, "f\n")
	want := "a\n2 lines of output were lost: no space left on device\nd\n1 line of output was lost: no space left on device\n" +
		strings.Repeat("x", maxLine) + "\n1 line of output was lost: no space left on device\nf\n"
	if got := strings.Join(readAll(t, openReader(t, dir)), ""); got != want {
		t.Errorf("log %q", got)
	}
	if l := w.Loss(); l.Lines != 4 || l.Unnoted() != 0 {
		t.Errorf("%+v", l)
	}
}

func TestLossGoesToTheNextProgram(t *testing.T) {
	full := error(syscall.ENOSPC)
	w, _ := failing(t, &full)
	_ = w.Write(Stdout, []byte("a\nb\n"), time.Now())
	l := w.Loss()
	full = nil
	next, dir := failing(t, &full)
	next.SetLoss(l)
	write(t, next, Stdout, "c\n")
	if got := strings.Join(readAll(t, openReader(t, dir)), ""); got != "2 lines of output were lost: no space left on device\nc\n" {
		t.Errorf("log %q", got)
	}
}
