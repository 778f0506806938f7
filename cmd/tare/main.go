// Command tare is the command line of the Tare container engine. Its commands,
// flags, output and exit codes are those of docker's command line.
//
// # How it is laid out
//
// One file holds one command, in three parts: newXCommand declares the flags,
// xOptions holds what they say, runX does it through package client. commands.go
// lists all commands; it is the only place a new one has to be entered.
//
// A run of tare takes a few milliseconds, so nothing happens before it is
// needed: of the tree of commands only the one that was called is built, the
// configuration file is read when an engine is dialed, and no package has
// work to do at start-up.
//
// # Exit codes
//
//	0    it worked
//	1    the engine refused, or an argument makes no sense
//	125  a flag makes no sense, or (run) no container came of it
//	126  (run, exec) the program in the container is not executable
//	127  (run, exec) the program in the container was not found
//	n    (run, exec, start -a, attach) the program's own code, 128+n after signal n
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tare-engine/tare/cmd/tare/format"
)

func main() {
	os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit code.
func execute(args []string, in, out, errOut *os.File) int {
	c := &cli{in: in, out: out, err: errOut, tree: commands}
	root := newRootCommand(c, args)
	root.SetArgs(args)
	return report(errOut, root.ExecuteContext(context.Background()))
}

// exitError is an error with an exit code of its own. Without a text the code
// is all there is to say.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// report prints an error, if it has a text, and returns the exit code.
// An engine's text may hold what an image or another user put there: it is
// not allowed to steer the terminal.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(w, format.EscapeLines(text))
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return 1
}
