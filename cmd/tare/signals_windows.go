package main

import (
	"os"
	"os/exec"
	"syscall"
)

// resized is a signal that never comes: consoles on Windows have none.
var resized os.Signal = syscall.Signal(0x1c)

// ownSession does nothing: a console's Ctrl-C reaches what we start as well.
func ownSession(*exec.Cmd) {}
