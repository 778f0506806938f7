//go:build !windows

package sigproxy

import (
	"os"
	"slices"
	"syscall"
)

// usual are the signals that terminals, shells and supervisors send.
var usual = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT, syscall.SIGTSTP,
}

// own are those that the kernel sends for what this very process has done.
var own = []os.Signal{syscall.SIGPIPE}

// last is the highest real-time signal (signal(7)).
const last = 64

// rest are all others that can be caught but for what the kernel says of our
// children, and SIGURG, which the Go scheduler sends itself.
func rest() []os.Signal {
	not := slices.Concat(usual, own, []os.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG})
	var list []os.Signal
	for s := syscall.Signal(1); s <= last; s++ {
		if !slices.Contains(not, os.Signal(s)) {
			list = append(list, s)
		}
	}
	return list
}
