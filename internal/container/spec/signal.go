package spec

import (
	"strconv"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
)

// signals by name, without SIG; signal(7).
var signals = map[string]syscall.Signal{
	"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "BUS": syscall.SIGBUS, "CHLD": syscall.SIGCHLD, "CLD": syscall.SIGCHLD,
	"CONT": syscall.SIGCONT, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP, "ILL": syscall.SIGILL, "INT": syscall.SIGINT,
	"IO": syscall.SIGIO, "IOT": syscall.SIGIOT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE, "POLL": syscall.SIGIO,
	"PROF": syscall.SIGPROF, "PWR": syscall.SIGPWR, "QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV, "STKFLT": syscall.SIGSTKFLT,
	"STOP": syscall.SIGSTOP, "SYS": syscall.SIGSYS, "TERM": syscall.SIGTERM, "TRAP": syscall.SIGTRAP, "TSTP": syscall.SIGTSTP,
	"TTIN": syscall.SIGTTIN, "TTOU": syscall.SIGTTOU, "URG": syscall.SIGURG, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	"VTALRM": syscall.SIGVTALRM, "WINCH": syscall.SIGWINCH, "XCPU": syscall.SIGXCPU, "XFSZ": syscall.SIGXFSZ,
}

// Real-time signals as programs may use them: glibc keeps the first two.
const sigRTMin, sigRTMax = 34, 64

// ParseSignal understands 9, KILL, SIGKILL, RTMIN+3 and RTMAX-3, in any case.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, errdefs.New(errdefs.InvalidArgument, "invalid signal: %s", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig, ok := signals[name]; ok {
		return sig, nil
	}
	if n, ok := realTime(name); ok {
		return n, nil
	}
	return 0, errdefs.New(errdefs.InvalidArgument, "invalid signal: %s", s)
}

func realTime(name string) (syscall.Signal, bool) {
	base := map[string]int{"RTMIN": sigRTMin, "RTMAX": sigRTMax}
	if n, ok := base[name]; ok {
		return syscall.Signal(n), true
	}
	for prefix, n := range base {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		off, err := strconv.Atoi(rest)
		if err != nil || n+off < sigRTMin || n+off > sigRTMax {
			return 0, false
		}
		return syscall.Signal(n + off), true
	}
	return 0, false
}
