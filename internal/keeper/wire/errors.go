package wire

import (
	"errors"
	"strconv"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// StepError is the error of a start whose plan failed.
type StepError = spawn.StepError

// RuntimeError says how a command of an OCI runtime failed.
type RuntimeError struct {
	Second bool               // the second command
	Status syscall.WaitStatus // its end
	Stderr string             // the beginning of what it wrote to the process's stderr
}

func (e *RuntimeError) Error() string {
	if e.Status.Signaled() {
		return "the runtime was ended by signal " + e.Status.Signal().String()
	}
	return "the runtime did not terminate successfully: exit status " + strconv.Itoa(e.Status.ExitStatus())
}

// ErrorDoc is the error of a reply.
type ErrorDoc struct {
	Error   string        `json:",omitempty"`
	Kind    errdefs.Kind  `json:",omitempty"`
	Errno   syscall.Errno `json:",omitempty"`
	Step    *StepDoc      `json:",omitempty"`
	Runtime *RuntimeError `json:",omitempty"`
}

type StepDoc struct {
	Step   int
	Second bool
}

// ErrorOf makes the document of err.
func ErrorOf(err error) ErrorDoc {
	d := ErrorDoc{Error: err.Error(), Kind: errdefs.KindOf(err)}
	if s, ok := errors.AsType[*StepError](err); ok {
		d.Errno, d.Step = s.Errno, &StepDoc{s.Step, s.Second}
		return d
	}
	if r, ok := errors.AsType[*RuntimeError](err); ok {
		d.Runtime = r
		return d
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		d.Errno = e
	}
	return d
}

// Err is the error that the document stands for, nil if it stands for none.
func (d ErrorDoc) Err() error {
	switch {
	case d.Error == "":
		return nil
	case d.Step != nil:
		return &StepError{Errno: d.Errno, Step: d.Step.Step, Second: d.Step.Second}
	case d.Runtime != nil:
		return d.Runtime
	case d.Errno != 0:
		return errdefs.As(d.Kind, &remoteError{d.Error, d.Errno})
	}
	return errdefs.New(d.Kind, "%s", d.Error)
}

// remoteError is an error of the keeper's with its errno.
type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.errno }
