package wire

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

func wirePair(t testing.TB) (a, b *Socket) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var w [2]*Socket
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		w[i] = NewSocket(c.(*net.UnixConn))
		t.Cleanup(func() { c.Close() })
	}
	return w[0], w[1]
}

func TestMessagesArriveWhole(t *testing.T) {
	a, b := wirePair(t)
	for _, payload := range []int{0, 1, MaxPacket, MaxPayload} {
		r, w, _ := os.Pipe()
		want := &Message{Op: OpStart, Request: 7, Doc: []byte(`{"x":1}`), Payload: bytes.Repeat([]byte{'p'}, payload), Files: []*os.File{w}}
		if err := a.Send(want); err != nil {
			t.Fatal(payload, err)
		}
		w.Close()
		got, err := b.Receive()
		if err != nil {
			t.Fatal(payload, err)
		}
		if got.Op != want.Op || got.Request != 7 || !bytes.Equal(got.Doc, want.Doc) || !bytes.Equal(got.Payload, want.Payload) || len(got.Files) != 1 {
			t.Errorf("%d bytes: got %v, %d bytes, %d files", payload, got.Op, len(got.Payload), len(got.Files))
		}
		got.Files[0].WriteString("through")
		got.Close()
		if s, _ := io.ReadAll(r); string(s) != "through" {
			t.Errorf("descriptor: %q", s)
		}
		r.Close()
	}
}

func TestOversizedMessagesAreNotSent(t *testing.T) {
	a, _ := wirePair(t)
	for _, m := range []*Message{
		{Doc: make([]byte, MaxDoc+1)},
		{Payload: make([]byte, MaxPayload+1)},
		{Files: make([]*os.File, MaxFiles+1)},
	} {
		if err := a.Send(m); err == nil {
			t.Errorf("sent %d, %d, %d", len(m.Doc), len(m.Payload), len(m.Files))
		}
	}
}

func TestMalformedPacketsEndTheConnection(t *testing.T) {
	good := func(doc, payload int) []byte {
		b := make([]byte, HeaderSize+4)
		b[4], b[16] = byte(doc), byte(payload)
		return b
	}
	for name, b := range map[string][]byte{
		"short":             make([]byte, HeaderSize-1),
		"document too long": good(5, 0),
		"payload too long":  good(0, 5),
		"bytes left over":   good(1, 1),
		"huge":              append(make([]byte, 4), append(bytes.Repeat([]byte{255}, 20), 0)...),
		"no payload file":   append([]byte{1, 0, flagPayloadFile, 0}, make([]byte, HeaderSize-4)...),
	} {
		a, w := wirePair(t)
		if _, err := a.c.Write(b); err != nil {
			t.Fatal(err)
		}
		if m, err := w.Receive(); err == nil {
			t.Errorf("%s: received %+v", name, m)
		}
	}
}

func TestTruncatedMessageEndsTheConnection(t *testing.T) {
	a, w := wirePair(t)
	if _, err := a.c.Write(make([]byte, MaxPacket+100)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Receive(); err == nil {
		t.Error("a packet longer than the buffer was accepted")
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	step := ErrorOf(&StepError{Errno: syscall.ENOEXEC, Step: 3, Second: true}).Err()
	if e, ok := errors.AsType[*StepError](step); !ok || e.Errno != syscall.ENOEXEC || e.Step != 3 || !e.Second {
		t.Error(step)
	}
	if err := ErrorOf(errdefs.New(errdefs.NotFound, "no process %s", "x")).Err(); !errdefs.Is(err, errdefs.NotFound) || err.Error() != "no process x" {
		t.Error(err)
	}
	gone := ErrorOf(errdefs.New(errdefs.NotFound, "process x: %w", syscall.ESRCH)).Err()
	if !errdefs.Is(gone, errdefs.NotFound) || !errors.Is(gone, syscall.ESRCH) {
		t.Errorf("%v", gone)
	}
	if err := ErrorOf(&os.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}).Err(); !errors.Is(err, syscall.EMFILE) {
		t.Error(err)
	}
	if err := (ErrorDoc{}).Err(); err != nil {
		t.Error(err)
	}
}

func TestImagesTravel(t *testing.T) {
	p := spawn.NewPlan()
	p.Exec("x", "/bin", []string{"x"}, nil)
	b, d := AppendImage([]byte("head"), p.Image())
	im, rest, err := CutImage(append(b[4:], "tail"...), d)
	if err != nil || !reflect.DeepEqual(im, p.Image()) || string(rest) != "tail" {
		t.Error(im, rest, err)
	}
	for _, d := range []ImageDoc{{-1, 0}, {0, -1}, {5, 0}, {0, 2}, {1 << 62, 1 << 62}} {
		if _, _, err := CutImage([]byte("four"), d); err == nil {
			t.Errorf("%+v cut from four bytes", d)
		}
	}
}

func TestIDsAreFileNames(t *testing.T) {
	for id, want := range map[string]bool{
		"abc": true, "A-b_c.9": true, "": false, ".": false, "..": false, ".x": false, "a/b": false, "a\x00": false, "ü": false, strings.Repeat("x", 129): false,
	} {
		if UsableID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}
