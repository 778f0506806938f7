package stream

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
)

// A client that does not read gets everything later, and neither the process nor
// another client waits for it.
func TestStoppedClientLosesNothing(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{})
	slow, _, _ := r.dial(both())
	errOnly, _, _ := r.dial(wire.Client{Stderr: true})
	fast, _, _ := r.dial(both())
	const size = 12 << 20
	sum := make(chan [32]byte, 1)
	go func() {
		out, _ := frames(t, fast)
		sum <- sha256.Sum256([]byte(out))
	}()
	h := sha256.New()
	block := make([]byte, 1<<16)
	for i := 0; i < size; i += len(block) {
		for k := range block {
			block[k] = byte(i>>16 + k*7)
		}
		h.Write(block)
		if _, err := p.out.Write(block); err != nil {
			t.Fatal(err)
		}
		if i%(1<<20) == 0 {
			say(t, p.err, "note\n")
		}
	}
	p.out.Close()
	p.err.Close()
	want := [32]byte(h.Sum(nil))
	if got := <-sum; got != want {
		t.Error("the client that reads got something else")
	}
	r.Drain("c1", nil)
	r.Streams.Close("c1") // what is left does not need the process
	out, errText := frames(t, slow)
	if sha256.Sum256([]byte(out)) != want || errText != strings.Repeat("note\n", size>>20) {
		t.Errorf("the slow client got %d bytes, %q", len(out), errText)
	}
	if _, errText := frames(t, errOnly); errText != strings.Repeat("note\n", size>>20) {
		t.Errorf("the client of stderr got %q", errText)
	}
	eventually(t, "the set is forgotten", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.lingering) == 0 && len(r.sources) == 0
	})
}

func limitSpool(t *testing.T, bytes int64, stopped time.Duration) {
	oldLimit, oldSize, oldAfter := spoolLimit, spoolSize, stoppedAfter
	// An odd size, so that frames and their headers lie across the end.
	spoolLimit, spoolSize, stoppedAfter = bytes, bytes+8<<20+3, stopped
	t.Cleanup(func() { spoolLimit, spoolSize, stoppedAfter = oldLimit, oldSize, oldAfter })
}

// The spool's file is written round and round while a client stays behind.
func TestSpoolGoesRound(t *testing.T) {
	limitSpool(t, 1<<20, time.Minute)
	spoolSize = 1<<20 + 70_001
	r := newRig(t)
	p := r.start(wire.Stdio{})
	c, _, _ := r.dial(both())
	only, _, _ := r.dial(wire.Client{Stderr: true})
	const n = 40_000
	want := func(s string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%s %d%s\n", s, i, strings.Repeat("x", i%211))
		}
		return b.String()
	}
	for s, w := range map[string]io.WriteCloser{"out": p.out, "err": p.err} {
		go func() {
			text := want(s)
			for i := 0; i < len(text); i += 3001 {
				io.WriteString(w, text[i:min(len(text), i+3001)])
			}
			w.Close()
		}()
	}
	time.Sleep(50 * time.Millisecond) // neither client reads: both stay behind, more or less
	done := make(chan string)
	go func() {
		_, errText := frames(t, only)
		done <- errText
	}()
	out, errText := frames(t, c)
	if out != want("out") || errText != want("err") {
		t.Errorf("the client got %d and %d bytes of %d and %d", len(out), len(errText), len(want("out")), len(want("err")))
	}
	if got := <-done; got != want("err") {
		t.Errorf("the client of stderr got %d bytes", len(got))
	}
}

func TestFullSpoolWaitsForAReader(t *testing.T) {
	limitSpool(t, 1<<20, time.Minute)
	r := newRig(t)
	p := r.start(wire.Stdio{})
	c, _, _ := r.dial(both())
	written := make(chan int, 1)
	go func() {
		n, _ := p.out.Write(make([]byte, 8<<20))
		p.out.Close()
		p.err.Close()
		written <- n
	}()
	select {
	case <-written:
		t.Fatal("the process did not wait")
	case <-time.After(300 * time.Millisecond):
	}
	out, _ := frames(t, c)
	if n := <-written; len(out) != 8<<20 || n != 8<<20 {
		t.Errorf("wrote %d, the client got %d", n, len(out))
	}
}

func TestStoppedClientIsCut(t *testing.T) {
	limitSpool(t, 1<<20, 100*time.Millisecond)
	r := newRig(t)
	p := r.start(wire.Stdio{})
	c, _, _ := r.dial(both())
	if n, err := p.out.Write(make([]byte, 16<<20)); n != 16<<20 || err != nil {
		t.Fatalf("the process wrote %d, %v", n, err)
	}
	out, errText := frames(t, c)
	if len(out) == 0 || len(out) >= 16<<20 || !strings.Contains(errText, "output is cut") {
		t.Errorf("the client got %d bytes and %q", len(out), errText)
	}
}
