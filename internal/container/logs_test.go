package container

import (
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
)

func TestLogTimesHaveNineDigits(t *testing.T) {
	var out strings.Builder
	l := &logWriter{w: &out, timestamps: true}
	at := time.Date(2026, 1, 2, 3, 4, 5, 120_000_000, time.UTC)
	if err := l.write(logfile.Entry{Time: at, Line: []byte("x\n")}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "2026-01-02T03:04:05.120000000Z x\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
