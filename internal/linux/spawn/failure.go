package spawn

import (
	"fmt"
	"syscall"
)

// StepError is the error of a start whose plan failed.
type StepError struct {
	Errno  syscall.Errno
	Step   int  // -1: unknown
	Second bool // the step is of the second plan
}

func (e *StepError) Error() string {
	plan := ""
	if e.Second {
		plan = " of the second plan"
	}
	return fmt.Sprintf("step %d%s: %v", e.Step, plan, e.Errno)
}

// Unwrap returns the errno.
func (e *StepError) Unwrap() error { return e.Errno }
