package main

import (
	"bytes"
	"testing"
	"time"
)

func TestOldSizesAreWorthALine(t *testing.T) {
	var notes bytes.Buffer
	told := sizesOf(&notes)
	told(time.Now().Add(-9 * time.Second))
	if notes.Len() > 0 {
		t.Errorf("%q", &notes)
	}
	told(time.Now().Add(-5 * time.Minute))
	if want := "Sizes may be of 5 minutes ago: what takes long to count is not counted each time\n"; notes.String() != want {
		t.Errorf("%q, want %q", &notes, want)
	}
}
