//go:build !windows

package main

import (
	"os/exec"
	"syscall"
)

// become replaces this program by another one, which has its terminal and its exit
// code then.
func become(cmd *exec.Cmd) error { return syscall.Exec(cmd.Path, cmd.Args, cmd.Environ()) }
