//go:build root

package nft

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDrainForgetsTheRestOfAFlush: the kernel reports a flush of many rules in several
// datagrams, of which the first is enough to know.
func TestDrainForgetsTheRestOfAFlush(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	full := &Table{Name: "x"}
	for i := range 200 {
		full.Chains = append(full.Chains, Chain{Name: fmt.Sprint("c", i), Rules: []Rule{{Accept()}, {Drop()}}})
	}
	if err := c.Apply(full); err != nil {
		t.Fatal(err)
	}
	w, err := c.NewWatch("x", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.f.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, drained := range []bool{false, true} {
		if err := c.Apply(full); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
		if err := w.Next(); err != nil {
			t.Fatal(err)
		}
		if drained {
			if err := w.Drain(); err != nil {
				t.Fatal(err)
			}
			if err := w.f.SetReadDeadline(time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			if err := w.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("reported again:", err)
			}
		} else if err := w.Next(); err != nil {
			t.Error("one datagram told of all: the test has lost its point:", err)
		}
	}
	if w.Close(); w.Drain() == nil {
		t.Error("a closed watch was drained")
	}
}
