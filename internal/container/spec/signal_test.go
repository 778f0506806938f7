package spec

import (
	"syscall"
	"testing"
)

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]syscall.Signal{"9": 9, "KILL": 9, "SIGKILL": 9, "sigterm": 15, "usr1": 10, "RTMIN": 34, "SIGRTMIN+3": 37, "rtmax-1": 63, "64": 64} {
		if got, err := ParseSignal(s); err != nil || got != want {
			t.Errorf("ParseSignal(%q) = %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65", "-1", "NOPE", "SIG", "RTMIN+31", "RTMAX+1", "RTMIN-1", "9 "} {
		if got, err := ParseSignal(s); err == nil {
			t.Errorf("ParseSignal(%q) = %d", s, got)
		}
	}
}
