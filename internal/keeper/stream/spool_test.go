package stream

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
)

// However the ring's end, the buffer and partial sends fall, a client gets whole
// frames of the streams it wants, in order.
func TestFramesOverTheRingsEnd(t *testing.T) {
	limitSpool(t, 1<<20, time.Minute)
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, want := range [][2]bool{{true, true}, {true, false}, {false, true}} {
		for size := int64(200); size < 230; size++ {
			spoolSize = size
			for _, step := range []int{1, 7, 64} {
				if got, all := ringRun(t, dir, want, step); got != all {
					t.Fatalf("ring of %d, wanted %v, steps of %d:\n%q\n%q", size, want, step, got, all)
				}
			}
		}
	}
}

// ringRun adds frames and lets a client take them, step bytes at a time.
func ringRun(t *testing.T, dir *os.File, want [2]bool, step int) (got, all string) {
	t.Helper()
	a := audience{framed: true}
	defer a.spool.release()
	c := &client{want: want, behind: true}
	buf := make([]byte, 50)
	var sent, wanted bytes.Buffer
	for i := range 60 {
		s := logfile.Stream(1 + i*7%3%2)
		payload := fmt.Sprintf("%d%s", i, bytes.Repeat([]byte("."), i*5%31))
		frame := make([]byte, frameHeader, 64)
		putHeader(frame, s, len(payload))
		frame = append(frame, payload...)
		if err := a.spool.add(dir, frame, c.place); err != nil {
			t.Fatal(err)
		}
		if want[s-1] {
			wanted.Write(frame)
		}
		if i%3 == 2 {
			continue // some at once
		}
		for c.place < a.spool.end {
			p, skip, err := a.next(c, buf)
			if err != nil {
				t.Fatal(err)
			}
			c.place += skip
			n := min(len(p), step)
			sent.Write(p[:n])
			c.sent(n, p, true)
		}
	}
	for c.place < a.spool.end {
		p, skip, err := a.next(c, buf)
		if err != nil {
			t.Fatal(err)
		}
		c.place += skip
		sent.Write(p)
		c.sent(len(p), p, true)
	}
	return sent.String(), wanted.String()
}
