//go:build !windows

package main

import (
	"os"
	"syscall"
)

// resized is the signal of a terminal that has changed its size.
var resized os.Signal = syscall.SIGWINCH
