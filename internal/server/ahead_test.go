package server

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// slow is a client that takes what it gets only when the next part is being made.
type slow struct {
	bytes.Buffer
	refuses int // bytes, of which one more is an error
	taken   chan struct{}
}

var errClient = errors.New("the client has left")

func (s *slow) Write(b []byte) (int, error) {
	<-s.taken
	if s.Len()+len(b) > s.refuses {
		return 0, errClient
	}
	return s.Buffer.Write(b)
}

func TestAnswerIsSentWhileTheNextPartIsMade(t *testing.T) {
	want := bytes.Repeat([]byte("a line\n"), 3*archiveBuffer/7)
	for _, size := range []int{7, 512, archiveBuffer - 1, archiveBuffer, 3 * archiveBuffer} {
		client := &slow{refuses: len(want), taken: make(chan struct{}, 4)}
		a := newAhead(client)
		if n, err := a.Write(want[:archiveBuffer]); n != archiveBuffer || err != nil { // the client has not taken it yet
			t.Fatalf("%d: %v", n, err)
		}
		close(client.taken)
		_, err := io.CopyBuffer(struct{ io.Writer }{a}, struct{ io.Reader }{bytes.NewReader(want[archiveBuffer:])}, make([]byte, size))
		if err := a.Close(err); err != nil || !bytes.Equal(client.Bytes(), want) {
			t.Errorf("in writes of %d: %d bytes of %d: %v", size, client.Len(), len(want), err)
		}
	}
}

func TestAnswerToAClientThatLeaves(t *testing.T) {
	client := &slow{refuses: archiveBuffer, taken: make(chan struct{})}
	close(client.taken)
	a := newAhead(client)
	_, err := io.Copy(a, io.LimitReader(zeros{}, 100*archiveBuffer))
	if !errors.Is(err, errClient) {
		t.Errorf("an endless answer ends with %v", err)
	}
	if err := a.Close(nil); !errors.Is(err, errClient) {
		t.Errorf("the answer ends with %v", err)
	}
}

// What could not be made whole is not sent to the end: while nothing was sent, the
// error has a status.
func TestAnswerThatCannotBeMade(t *testing.T) {
	client := &slow{refuses: archiveBuffer, taken: make(chan struct{})}
	a := newAhead(client)
	made := errors.New("no such file")
	a.Write([]byte("half"))
	if err := a.Close(made); err != made || client.Len() != 0 {
		t.Errorf("%d bytes were sent: %v", client.Len(), err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
