package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Exit codes of a container whose program never ran, as Docker's. The command
// line shows 125 for the first.
const (
	exitEngine      = 128
	exitCannotStart = 126
	exitNotFound    = 127
)

// Beginnings and ends of Docker's texts.
const (
	createFailed = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: "
	execFailed   = "OCI runtime exec failed: exec failed: unable to start container process: "
	typeHint     = ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
)

// StartError says why a program did not start.
type StartError struct {
	Code   int    // State.ExitCode: 126 cannot be run, 127 not found, 128 all else
	Text   string // Docker's
	Client bool   // what the client asked for cannot work
	prefix string // of Text
	err    error
}

// NewStartError makes the error of a start that another runtime was to do: its
// text tells, as in Docker, what kind it is.
func NewStartError(text string, cause error) *StartError {
	e := &StartError{Code: exitEngine, Text: text, err: cause}
	lower := strings.ToLower(text)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(lower, w) })
	}
	switch {
	case has("not found in $path", "no such file or directory", "not a directory"):
		e.Code, e.Client = exitNotFound, true
	case has("permission denied", "is a directory", "exec format error"):
		e.Code, e.Client = exitCannotStart, true
	}
	return e
}

// NewEngineError makes the error of a start for which the container's program
// is not to blame.
func NewEngineError(text string, cause error) *StartError {
	return &StartError{Code: exitEngine, Text: text, err: cause}
}

// Reason is the text without what other programs put before it.
func (e *StartError) Reason() string { return strings.TrimPrefix(e.Text, e.prefix) }

func (e *StartError) Error() string { return e.Text }

// Unwrap returns the cause, classified.
func (e *StartError) Unwrap() error {
	if e.Client {
		return errdefs.As(errdefs.InvalidArgument, e.err)
	}
	return e.err
}

// mark says what the steps from its place on are about, for error texts.
type mark struct {
	from           int
	kind           markKind
	object, source string
}

type markKind int

const (
	markNone markKind = iota
	markMount
	markSysctl
	markCwd
	markRlimit
	markLabel
	markUser
	markCaps
	markExec
)

// explainer knows what the steps of a plan are about.
type explainer struct {
	first   []mark
	process *specs.Process
	uids    []specs.LinuxIDMapping // of a user namespace
	gids    []specs.LinuxIDMapping
	program string // instead of the first argument, if not empty
	root    *os.File
	prefix  string
	wake    bool // the plan is a parked child's second
	names   func(step int) string
}

// Process is the process of the plan.
func (x explainer) Process() *specs.Process { return x.process }

// Explain turns the failure of a step into Docker's text and exit code.
func (x explainer) Explain(e *spawn.StepError) error {
	if e.Second && !x.wake {
		return x.explainExec(e.Errno)
	}
	var m mark
	for _, n := range x.first {
		if n.from <= e.Step {
			m = n
		}
	}
	switch m.kind {
	case markExec:
		return x.explainExec(e.Errno)
	case markMount:
		return x.explainMount(m, e.Errno)
	case markCwd:
		return x.explainCwd(m, e.Errno)
	case markSysctl:
		code := exitEngine
		if e.Errno == syscall.ENOENT {
			code = exitNotFound
		}
		return x.failed(code, true, e.Errno, "open /proc/sys/%s: %v", strings.ReplaceAll(m.object, ".", "/"), e.Errno)
	case markRlimit:
		return x.failed(exitEngine, true, e.Errno, "error setting rlimit type %s: %v", m.object, e.Errno)
	case markLabel:
		return x.failed(exitEngine, true, e.Errno, "unable to apply apparmor profile: %v", e.Errno)
	case markUser:
		return x.failed(exitEngine, true, e.Errno, "unable to setup user: %v", e.Errno)
	case markCaps:
		return x.failed(exitEngine, true, e.Errno, "unable to apply caps: %v", e.Errno)
	}
	name := x.names(e.Step)
	if name == "" {
		name = "unknown step"
	}
	return x.failed(exitEngine, false, e, "%s: %v", name, e.Errno)
}

func (x explainer) failed(code int, client bool, err error, format string, args ...any) error {
	return &StartError{Code: code, Client: client, Text: x.prefix + fmt.Sprintf(format, args...), prefix: x.prefix, err: err}
}

// explainExec tells apart what an execve's errno leaves open. A bare name that
// is nowhere executable is "not found", whatever was met on the way.
func (x explainer) explainExec(errno syscall.Errno) error {
	name := x.program
	if name == "" {
		name = x.process.Args[0]
	}
	if !strings.Contains(name, "/") && (errno == syscall.ENOENT || errno == syscall.EACCES) {
		return x.failed(exitNotFound, true, errno, "exec: %q: executable file not found in $PATH", name)
	}
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		if x.exists(name) { // the interpreter is missing
			return x.failed(exitNotFound, true, errno, "exec %s: %v", name, syscall.ENOENT)
		}
		return x.failed(exitNotFound, true, errno, "exec: %q: stat %s: %v", name, name, errno)
	case syscall.EACCES:
		if x.isDir(name) {
			errno = syscall.EISDIR
		}
		return x.failed(exitCannotStart, true, errno, "exec: %q: %v", name, errno)
	}
	return x.failed(exitCannotStart, true, errno, "exec %s: %v", name, errno)
}

func (x explainer) exists(name string) bool {
	if x.root == nil {
		return false
	}
	_, err := inroot.Stat(x.root, name)
	return err == nil
}

func (x explainer) isDir(name string) bool {
	if x.root == nil {
		return false
	}
	st, err := inroot.Stat(x.root, name)
	return err == nil && st.IsDir()
}

func (x explainer) explainMount(m mark, errno syscall.Errno) error {
	text := fmt.Sprintf("error mounting %q to rootfs at %q: ", m.source, m.object)
	switch errno {
	case syscall.ENOTDIR:
		return x.failed(exitNotFound, true, errno, "%s%v%s", text, errno, typeHint)
	case syscall.ELOOP:
		return x.failed(exitEngine, true, errno, "%spossibly malicious path detected: the destination has become a symbolic link", text)
	}
	return x.failed(exitEngine, !errors.Is(errno, syscall.ENOMEM), errno, "%s%v", text, errno)
}

func (x explainer) explainCwd(m mark, errno syscall.Errno) error {
	if errno == syscall.ELOOP || errno == syscall.EXDEV {
		return x.failed(exitEngine, true, errno, "current working directory is outside of container mount namespace root -- possible container breakout detected")
	}
	code := exitEngine
	switch errno {
	case syscall.ENOENT:
		code = exitNotFound
	case syscall.EACCES, syscall.ENOTDIR:
		code = exitCannotStart
	}
	return x.failed(code, true, errno, "chdir to cwd (%q) set in config.json failed: %v", m.object, errno)
}
