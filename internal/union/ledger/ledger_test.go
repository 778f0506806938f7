package ledger

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func newLedger(t *testing.T) *Ledger {
	t.Helper()
	l, err := New(8192)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// again opens the same memory once more, as another process would.
func again(t *testing.T, l *Ledger) *Ledger {
	t.Helper()
	fd, err := syscall.Dup(l.FD())
	if err != nil {
		t.Fatal(err)
	}
	o, err := Open(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func contents(t *testing.T, l *Ledger) string {
	t.Helper()
	var s strings.Builder
	err := l.Read(func(r *Record) error {
		fmt.Fprint(&s, r.Kind, ":")
		for r.More() {
			fmt.Fprint(&s, r.Int(), r.String(), r.Bool(), ";")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.String()
}

func TestRecordsOutliveTheWriter(t *testing.T) {
	l := newLedger(t)
	var r Records
	r.Begin(1).Int(7).String("seven").Bool(true).End()
	r.Begin(2).End()
	l.Append(&r)
	if r.Len() != 0 {
		t.Errorf("%d bytes are left", r.Len())
	}
	r.Begin(3).Int(1 << 60).String("").Bool(false).End()
	l.Append(&r)
	const want = "1:7seventrue;2:3:1152921504606846976false;"
	if got := contents(t, again(t, l)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRewriteCountsAtOneMoment: who is killed while the ledger is written anew leaves
// the old one.
func TestRewriteCountsAtOneMoment(t *testing.T) {
	l := newLedger(t)
	var r Records
	for i := range 3 {
		for n := 0; ; n++ {
			r.Begin(1).Int(uint64(n)).String(strings.Repeat("x", 4000)).Bool(true).End()
			l.Append(&r)
			if _, now := l.Grown(); now {
				break
			}
		}
		err := l.Rewrite(func(add func(*Records) error) error {
			r.Begin(9).Int(uint64(i)).String("new").Bool(true).End()
			err := add(&r)
			if got := contents(t, again(t, l)); got[:2] != "1:" && got[:2] != "9:" || len(got) < 1000 {
				t.Errorf("before it is done: %.20q", got)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := contents(t, again(t, l)), fmt.Sprint("9:", i, "newtrue;"); got != want {
			t.Errorf("%.50q, want %q", got, want)
		}
	}
}

func TestCells(t *testing.T) {
	l := newLedger(t)
	c := l.Cell(5)
	c.Expect()
	first := c.Sequence()
	copy(c.Request, []byte{48, 0, 0, 0, 14, 0, 0, 0})
	c.Intent()[0] = 3
	other := again(t, l).Cell(5)
	if other.Waiting() != 48 || other.Opcode() != 14 || other.Finished() != 0 || other.Intent()[0] != 3 || other.Try() != 1 {
		t.Errorf("%d bytes of kind %d, answer %d", other.Waiting(), other.Opcode(), other.Finished())
	}
	other.Finish(16)
	if c.Finished() != 16 {
		t.Error("the answer does not count")
	}
	c.Done()
	c.Expect()
	if other.Waiting() != 0 || other.Finished() != 0 || other.Sequence() == first || other.Intent()[0] != 0 {
		t.Error("the next request finds something of the last")
	}
}

func TestOpenRefusesOthers(t *testing.T) {
	l := newLedger(t)
	l.header().magic.Store(0)
	fd, err := syscall.Dup(l.FD())
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if _, err := Open(fd); err == nil {
		t.Error("opened")
	}
}
