package main

import (
	"errors"
	"os/exec"
)

// become runs another program in place of this one.
func become(cmd *exec.Cmd) error {
	err := cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return &exitError{e.ExitCode(), ""}
	}
	return err
}
