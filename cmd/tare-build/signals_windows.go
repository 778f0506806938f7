package main

import (
	"os"
	"syscall"
)

// resized is a signal that never comes: consoles on Windows have none.
var resized os.Signal = syscall.Signal(0x1c)
