package main

import (
	"os"
	"syscall"
)

// pipeSize is what a pipe may hold of an archive: with the 64 KB that it has at
// first, who writes and who reads wait for each other most of the time.
const pipeSize = 1 << 20

// widen has out hold more, if it is a pipe and the system lets us; else it works too.
func widen(out *os.File) {
	const setPipeSize = 1031 // F_SETPIPE_SZ, since Linux 2.6.35
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, out.Fd(), setPipeSize, pipeSize)
}
