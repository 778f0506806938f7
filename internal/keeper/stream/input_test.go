package stream

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
)

func TestStdinOnceClosesWithItsClient(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true, StdinOnce: true})
	files, err := r.Files("c1")
	if err != nil {
		t.Fatal(err)
	}
	c, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true, Buffered: []byte("first ")})
	say(t, c, "second")
	c.CloseWrite()
	eventually(t, "the engine hears of it", func() bool { return r.told.String() == "stdin closed c1" })
	files.Close()
	got, err := io.ReadAll(p.in)
	if string(got) != "first second" || err != nil {
		t.Errorf("process read %q, %v", got, err)
	}
	say(t, p.out, "still")
	if _, text := frame(t, c); text != "still" {
		t.Errorf("after its half close the client got %q", text)
	}
}

func TestStdinStaysOpenForTheNext(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true})
	for _, text := range []string{"one", "two"} {
		c, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true})
		say(t, c, text)
		c.CloseWrite()
		b := make([]byte, 10)
		if n, err := p.in.Read(b); string(b[:n]) != text || err != nil {
			t.Fatalf("process read %q, %v", b[:n], err)
		}
		if _, err := c.Read(b); err != io.EOF {
			t.Errorf("its attachment does not end: %v", err)
		}
	}
}

func TestBigInputWaitsForTheProcess(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true, StdinOnce: true})
	c, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true})
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		c.Write(want)
		c.CloseWrite()
	}()
	time.Sleep(20 * time.Millisecond) // the pipe fills up; the shorter, the easier for it
	got, err := io.ReadAll(p.in)
	if !bytes.Equal(got, want) || err != nil {
		t.Errorf("process read %d bytes, %v", len(got), err)
	}
}

func TestDetachKeys(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true})
	c, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true, DetachKeys: []byte{16, 17}})
	say(t, c, "a\x10b\x10\x10\x11lost")
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("client got %q, %v", b, err)
	}
	b := make([]byte, 10)
	n, _ := p.in.Read(b)
	if string(b[:n]) != "a\x10b\x10" {
		t.Errorf("process read %q", b[:n])
	}
	eventually(t, "the engine hears of it", func() bool { return r.told.String() == "detached c1" })
}

func TestDetachFilter(t *testing.T) {
	for _, c := range []struct {
		keys, in, out string
		found         bool
	}{
		{"", "abc", "abc", false},
		{"ab", "xabx", "x", true},
		{"aab", "aaab", "a", true},
		{"aab", "aaaac", "aaaac", false},
		{"abac", "ababac", "ab", true},
		{"ab", "a", "", false},
	} {
		for step := 1; step < 4; step++ {
			d := detachKeys{keys: []byte(c.keys)}
			var out []byte
			found := false
			for i := 0; i < len(c.in) && !found; i += step {
				out, found = d.filter(out, []byte(c.in[i:min(len(c.in), i+step)]))
			}
			if string(out) != c.out || found != c.found {
				t.Errorf("keys %q in %q: %q, %v", c.keys, c.in, out, found)
			}
		}
	}
}
