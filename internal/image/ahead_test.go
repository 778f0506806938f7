package image

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

func TestAheadPassesAllOn(t *testing.T) {
	want := make([]byte, 5*aheadBuffer+77)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	a := newAhead()
	go func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(2*aheadBuffer))
			if _, err := a.Write(rest[:n]); err != nil {
				t.Error(err)
			}
			rest = rest[n:]
		}
		a.end(nil)
	}()
	got, err := io.ReadAll(a)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
	if _, err := a.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

func TestAheadTellsBothEnds(t *testing.T) {
	wrong := errors.New("wrong")
	a := newAhead()
	if _, err := a.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	a.end(wrong)
	if got, err := io.ReadAll(a); string(got) != "abc" || !errors.Is(err, wrong) {
		t.Errorf("%q, %v", got, err)
	}
	a = newAhead()
	a.leave(wrong)
	a.leave(nil)
	for { // what has room is taken, or not
		if _, err := a.Write(make([]byte, aheadBuffer)); err != nil {
			if !errors.Is(err, wrong) {
				t.Error(err)
			}
			return
		}
	}
}
