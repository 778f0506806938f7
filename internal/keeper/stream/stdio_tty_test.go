package stream

import (
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/tty"
	"github.com/tare-engine/tare/internal/linux/unixconn"
)

// terminal starts c1 with a terminal of which the test has the slave in raw
// mode, as a program that has set it so. before is what happens between the
// opening of its streams and its start.
func terminal(t *testing.T, r *rig, st wire.Stdio, before ...func()) *os.File {
	t.Helper()
	st.TTY = true
	child, err := r.Streams.Open("c1", st)
	if err != nil {
		t.Fatal(err)
	}
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	f := os.NewFile(slave, "slave")
	t.Cleanup(func() { f.Close() })
	tio, err := unix.IoctlGetTermios(int(slave), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	tio.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG
	tio.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(int(slave), unix.TCSETS, tio); err != nil {
		t.Fatal(err)
	}
	if err := unixconn.SendFD(int(child[0].Fd()), master); err != nil {
		t.Fatal(err)
	}
	unix.Close(master)
	for _, f := range before {
		f()
	}
	if err := r.Started("c1"); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTerminal(t *testing.T) {
	r := newRig(t)
	slave := terminal(t, r, wire.Stdio{OpenStdin: true, StdinOnce: true, Rows: 30, Cols: 100, Log: testLog})
	c, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true, DetachKeys: []byte{16, 17}})
	say(t, c, "typed")
	b := make([]byte, 100)
	if n, err := slave.Read(b); string(b[:n]) != "typed" || err != nil {
		t.Errorf("the process read %q, %v", b[:n], err)
	}
	say(t, slave, "raw")
	if n, err := c.Read(b); string(b[:n]) != "raw" || err != nil {
		t.Errorf("the client read %q, %v", b[:n], err)
	}
	if rows, cols, err := tty.Size(int(slave.Fd())); rows != 30 || cols != 100 || err != nil {
		t.Errorf("size %d x %d, %v", rows, cols, err)
	}
	if err := r.Resize("c1", 11, 22); err != nil {
		t.Fatal(err)
	}
	if rows, cols, _ := tty.Size(int(slave.Fd())); rows != 11 || cols != 22 {
		t.Errorf("size %d x %d after resize", rows, cols)
	}
	// A client that goes takes nothing with it.
	c.Close()
	c2, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true})
	text := strings.Repeat("0123456789abcde\n", 4000)
	go io.WriteString(slave, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c2, got); string(got) != text || err != nil {
		t.Errorf("the second client did not get the text: %v", err)
	}
	say(t, slave, "end\n")
	slave.Close()
	r.Drain("c1", nil)
	if rest, err := io.ReadAll(c2); string(rest) != "end\n" || err != nil {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	if got := r.told.String(); got != "" {
		t.Errorf("told %q", got)
	}
	if got := r.logText(); !strings.HasPrefix(got, "stdout:raw0123") || !strings.HasSuffix(got, "|stdout:end|") {
		t.Errorf("log %.40q…", got)
	}
}

// An exec is created with a terminal or without, and its output is asked for
// with frames or without: neither follows from the other.
func TestFramesAsAsked(t *testing.T) {
	r := newRig(t)
	slave := terminal(t, r, wire.Stdio{OddFrames: true})
	c, _, _ := r.dial(both())
	say(t, slave, "raw")
	slave.Close()
	r.Drain("c1", nil)
	if got, err := io.ReadAll(c); string(got) != "\x01\x00\x00\x00\x00\x00\x00\x03raw" || err != nil {
		t.Errorf("of a terminal with frames %q, %v", got, err)
	}

	r = newRig(t)
	p := r.start(wire.Stdio{OddFrames: true})
	c, _, _ = r.dial(wire.Client{Stdout: true})
	say(t, p.err, "no")
	say(t, p.out, "plain")
	p.out.Close()
	p.err.Close()
	r.Drain("c1", nil)
	if got, err := io.ReadAll(c); string(got) != "plain" || err != nil {
		t.Errorf("of pipes without frames %q, %v", got, err)
	}
}

// What a client types before the program runs waits for it: with its request,
// or right after the answer.
func TestTypedBeforeTheStart(t *testing.T) {
	r := newRig(t)
	slave := terminal(t, r, wire.Stdio{OpenStdin: true, StdinOnce: true}, func() {
		c, id, _ := r.dial(wire.Client{Stdin: true, Stdout: true, Buffered: []byte("one,")})
		say(t, c, "two")
		r.Streams.mu.Lock()
		src := r.Streams.clients[id].src
		r.Streams.mu.Unlock()
		src.mark(epoll.Read) // as the loop does
		src.set.turn()
	})
	b := make([]byte, 7)
	if _, err := io.ReadFull(slave, b); string(b) != "one,two" || err != nil {
		t.Errorf("the program read %q, %v", b, err)
	}
}

// Output that is there before anybody has opened the terminal again.
func TestTerminalReopened(t *testing.T) {
	r := newRig(t)
	slave := terminal(t, r, wire.Stdio{})
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(slave.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	c, _, _ := r.dial(both())
	say(t, slave, "one")
	b := make([]byte, 10)
	c.Read(b)
	slave.Close()
	again, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	say(t, again, "two")
	if n, err := c.Read(b); string(b[:n]) != "two" || err != nil {
		t.Errorf("client read %q, %v", b[:n], err)
	}
}

func BenchmarkAttach(b *testing.B) {
	for name, log := range map[string]*wire.Log{"log": {Dir: "c1/log", MaxSize: 20 << 20, MaxFiles: 5}, "nolog": nil} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			p := r.start(wire.Stdio{Log: log})
			c, _, _ := r.dial(both())
			block := []byte(strings.Repeat("The quick brown fox jumps over the lazy dog, again and again and so on, until the line is full....\n", 656))[:1<<16]
			b.SetBytes(int64(len(block)))
			done := make(chan int64)
			go func() {
				var n int64
				buf := make([]byte, 1<<20)
				for {
					k, err := c.Read(buf)
					if n += int64(k); err != nil {
						break
					}
				}
				done <- n
			}()
			n := 0
			for b.Loop() {
				if _, err := p.out.Write(block); err != nil {
					b.Fatal(err)
				}
				n++
			}
			p.out.Close()
			p.err.Close()
			if got := <-done; got < int64(n*len(block)) {
				b.Errorf("got %d of %d bytes", got, n*len(block))
			}
		})
	}
}
