// Command tare-init is process 1 of a container started with --init:
//
//	tare-init -- PROGRAM [ARGUMENT…]
//
// It starts the program in a process group of its own (in the foreground of
// the terminal if there is one), passes signals on to it, reaps whatever the
// container leaves to process 1, and ends as the program ends: with its status,
// or with 128 and the number of the signal that killed it. A program that is not
// there gives 127, one that cannot be executed 126.
//
// Every such container has one, so it is small: start_amd64.s is all of it. The
// linker makes its first instruction the entry of the program (-E main.start),
// and the Go runtime that is linked beside it never runs: not one of its pages
// is touched.
package main

import "os"

func start()

func main() {
	os.Stderr.WriteString("tare-init: built without -ldflags '-E main.start'; use make build\n")
	os.Exit(1)
	start() // keeps the linker from dropping it
}
