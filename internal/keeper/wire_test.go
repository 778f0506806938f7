package keeper

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

func wirePair(t testing.TB) (a, b *wire) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var w [2]*wire
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		w[i] = newWire(c.(*net.UnixConn))
		t.Cleanup(func() { c.Close() })
	}
	return w[0], w[1]
}

func TestMessagesArriveWhole(t *testing.T) {
	a, b := wirePair(t)
	for _, payload := range []int{0, 1, maxPacket, maxPayload} {
		r, w, _ := os.Pipe()
		want := &message{op: opStart, request: 7, doc: []byte(`{"x":1}`), payload: bytes.Repeat([]byte{'p'}, payload), files: []*os.File{w}}
		if err := a.send(want); err != nil {
			t.Fatal(payload, err)
		}
		w.Close()
		got, err := b.receive()
		if err != nil {
			t.Fatal(payload, err)
		}
		if got.op != want.op || got.request != 7 || !bytes.Equal(got.doc, want.doc) || !bytes.Equal(got.payload, want.payload) || len(got.files) != 1 {
			t.Errorf("%d bytes: got %v, %d bytes, %d files", payload, got.op, len(got.payload), len(got.files))
		}
		got.files[0].WriteString("through")
		got.close()
		if s, _ := io.ReadAll(r); string(s) != "through" {
			t.Errorf("descriptor: %q", s)
		}
		r.Close()
	}
}

func TestOversizedMessagesAreNotSent(t *testing.T) {
	a, _ := wirePair(t)
	for _, m := range []*message{
		{doc: make([]byte, maxDoc+1)},
		{payload: make([]byte, maxPayload+1)},
		{files: make([]*os.File, maxFiles+1)},
	} {
		if err := a.send(m); err == nil {
			t.Errorf("sent %d, %d, %d", len(m.doc), len(m.payload), len(m.files))
		}
	}
}

func TestMalformedPacketsEndTheConnection(t *testing.T) {
	good := func(doc, payload int) []byte {
		b := make([]byte, wireHeader+4)
		b[4], b[16] = byte(doc), byte(payload)
		return b
	}
	for name, b := range map[string][]byte{
		"short":             make([]byte, wireHeader-1),
		"document too long": good(5, 0),
		"payload too long":  good(0, 5),
		"bytes left over":   good(1, 1),
		"huge":              append(make([]byte, 4), append(bytes.Repeat([]byte{255}, 20), 0)...),
		"no payload file":   append([]byte{1, 0, flagPayloadFile, 0}, make([]byte, wireHeader-4)...),
	} {
		a, w := wirePair(t)
		if _, err := a.c.Write(b); err != nil {
			t.Fatal(err)
		}
		if m, err := w.receive(); err == nil {
			t.Errorf("%s: received %+v", name, m)
		}
	}
}

func TestTruncatedMessageEndsTheConnection(t *testing.T) {
	a, w := wirePair(t)
	if _, err := a.c.Write(make([]byte, maxPacket+100)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.receive(); err == nil {
		t.Error("a packet longer than the buffer was accepted")
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	step := errorOf(&StepError{Errno: syscall.ENOEXEC, Step: 3, Second: true}).err()
	if e, ok := errors.AsType[*StepError](step); !ok || e.Errno != syscall.ENOEXEC || e.Step != 3 || !e.Second {
		t.Error(step)
	}
	if err := errorOf(errdefs.New(errdefs.NotFound, "no process %s", "x")).err(); !errdefs.Is(err, errdefs.NotFound) || err.Error() != "no process x" {
		t.Error(err)
	}
	gone := errorOf(errdefs.New(errdefs.NotFound, "process x: %w", syscall.ESRCH)).err()
	if !errdefs.Is(gone, errdefs.NotFound) || !errors.Is(gone, syscall.ESRCH) {
		t.Errorf("%v", gone)
	}
	if err := errorOf(&os.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}).err(); !errors.Is(err, syscall.EMFILE) {
		t.Error(err)
	}
	if err := (errorDoc{}).err(); err != nil {
		t.Error(err)
	}
}

func TestImagesTravel(t *testing.T) {
	p := spawn.NewPlan()
	p.Exec("x", "/bin", []string{"x"}, nil)
	b, d := appendImage([]byte("head"), p.Image())
	im, rest, err := cutImage(append(b[4:], "tail"...), d)
	if err != nil || !reflect.DeepEqual(im, p.Image()) || string(rest) != "tail" {
		t.Error(im, rest, err)
	}
	for _, d := range []imageDoc{{-1, 0}, {0, -1}, {5, 0}, {0, 2}, {1 << 62, 1 << 62}} {
		if _, _, err := cutImage([]byte("four"), d); err == nil {
			t.Errorf("%+v cut from four bytes", d)
		}
	}
}

func TestIDsAreFileNames(t *testing.T) {
	for id, want := range map[string]bool{
		"abc": true, "A-b_c.9": true, "": false, ".": false, "..": false, ".x": false, "a/b": false, "a\x00": false, "ü": false, strings.Repeat("x", 129): false,
	} {
		if usableID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

func TestClientsMustBeUnixStreams(t *testing.T) {
	pair := func(kind int) *os.File {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Close(fds[1])
		return os.NewFile(uintptr(fds[0]), "x")
	}
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listening, _ := l.(*net.UnixListener).File()
	tcp, _ := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	null, _ := os.Open(os.DevNull)
	for name, c := range map[string]struct {
		f  *os.File
		ok bool
	}{
		"stream":    {pair(syscall.SOCK_STREAM), true},
		"seqpacket": {pair(syscall.SOCK_SEQPACKET), false},
		"datagram":  {pair(syscall.SOCK_DGRAM), false},
		"listening": {listening, false},
		"tcp":       {os.NewFile(uintptr(tcp), "tcp"), false},
		"file":      {null, false},
	} {
		if err := checkClient(c.f); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		c.f.Close()
	}
}

func TestMountPointsThatStay(t *testing.T) {
	for point, want := range map[string]bool{
		"/": true, "/proc": true, "/sys/fs/cgroup/memory": true, "/dev/shm": true, "/run": true, "/run/tare": true,
		"/run/tare/netns/x": false, "/home": false, "/run/user": false, "/process": false, "/var/lib/docker/overlay2/x": false,
	} {
		if needed(point, "/run/tare") != want {
			t.Errorf("%s: %v", point, !want)
		}
	}
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("%q", got)
	}
}

// FuzzKeeperMessage decodes a packet, and a start in it: whatever comes, the
// keeper lives and no descriptor stays.
func FuzzKeeperMessage(f *testing.F) {
	packet := func(o op, doc string, payload []byte) []byte {
		b := make([]byte, wireHeader)
		b[0], b[4], b[5], b[16], b[17] = byte(o), byte(len(doc)), byte(len(doc)>>8), byte(len(payload)), byte(len(payload)>>8)
		return append(append(b, doc...), payload...)
	}
	p := spawn.NewPlan()
	p.Exec("x", "/bin", []string{"x"}, nil)
	payload, _ := appendImage(nil, p.Image())
	f.Add(packet(opStart, `{"ID":"a","Plan":{"Bytes":1400,"Relocs":7}}`, payload), 0)
	f.Add(packet(opStart, `{"ID":"a","Files":1,"Clients":[{"Buffered":3}]}`, []byte("abc")), 2)
	f.Add(packet(opAttach, `{"ID":"a","Buffered":-1}`, nil), 1)
	f.Add(packet(opAdopt, `{"ID":"a","Streams":[true,true,true,true]}`, nil), 1)
	f.Fuzz(func(t *testing.T, b []byte, files int) {
		m := &message{}
		defer m.close()
		for range min(max(files, 0), 4) {
			n, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			m.files = append(m.files, n)
		}
		if m.decode(b) != nil {
			return
		}
		if s, err := readStart(m); err == nil {
			_ = s.Plan.Validate()
			for _, c := range s.clients {
				c.Conn.Close()
			}
		}
		var d adoptDoc
		if m.unmarshal(&d) == nil {
			if rest, err := d.unpack(m.files); err == nil && len(rest) > len(m.files) {
				t.Fatal("more descriptors than came")
			}
		}
	})
}
