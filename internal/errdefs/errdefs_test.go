package errdefs

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKindSurvivesWrapping(t *testing.T) {
	err := fmt.Errorf("start: %w", New(NotFound, "No such container: %s", "x"))
	if KindOf(err) != NotFound {
		t.Fatalf("kind %d", KindOf(err))
	}
	if err.Error() != "start: No such container: x" {
		t.Fatal(err)
	}
}

func TestOutermostKindWins(t *testing.T) {
	err := As(InvalidArgument, New(NotFound, "no such file"))
	if KindOf(err) != InvalidArgument {
		t.Fatalf("kind %d", KindOf(err))
	}
}

func TestCauseIsKept(t *testing.T) {
	err := New(Unavailable, "read: %w", io.ErrUnexpectedEOF)
	if !errors.Is(err, io.ErrUnexpectedEOF) || KindOf(io.EOF) != Internal || As(NotFound, nil) != nil {
		t.Fatal(err)
	}
}
