//go:build !windows

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// resized is the signal of a terminal that has changed its size.
var resized os.Signal = syscall.SIGWINCH

// ownSession keeps the terminal's signals from a program we start.
func ownSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
