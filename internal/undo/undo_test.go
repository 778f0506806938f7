package undo

import (
	"errors"
	"testing"
)

func TestRunTakesBackNewestFirstOnError(t *testing.T) {
	var got []int
	f := func(fail bool) (err error) {
		var u Stack
		defer u.Run(&err)
		for i := range 3 {
			u.Add(func() error { got = append(got, i); return nil })
		}
		if fail {
			return errors.New("x")
		}
		return nil
	}
	if f(false) != nil || got != nil {
		t.Fatal("ran after success", got)
	}
	if f(true) == nil || len(got) != 3 || got[0] != 2 || got[2] != 0 {
		t.Fatal(got)
	}
}

func TestRunJoinsErrors(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	f := func() (err error) {
		var u Stack
		defer u.Run(&err)
		u.Add(func() error { return b })
		return a
	}
	if err := f(); !errors.Is(err, a) || !errors.Is(err, b) {
		t.Fatal(err)
	}
}
