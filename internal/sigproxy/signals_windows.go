package sigproxy

import (
	"os"
	"syscall"
)

var (
	usual = []os.Signal{os.Interrupt, syscall.SIGTERM}
	own   = []os.Signal{syscall.SIGPIPE}
)

// rest is empty: a process on Windows gets no other signals.
func rest() []os.Signal { return nil }
