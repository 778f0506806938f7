// Command tare-dm is dmsetup on package internal/linux/dm: the same verbs, options,
// output and exit codes, so that scripts for one run with the other. Under the name
// dmsetup it is one:
//
//	ln -s …/tare-dm /usr/local/sbin/dmsetup
//
// It differs in three ways. Where no udev runs it makes the nodes itself. An error
// about a table is followed by a line with its targets and, where the kernel's log
// can be read, the kernel's reason. There is no dmstats.
package main

import (
	"bufio"
	"io"
	"os"
)

var version, commit = "dev", "unknown"

func main() {
	out := bufio.NewWriter(os.Stdout)
	status := run(os.Args, os.Stdin, out, os.Stderr)
	if err := out.Flush(); err != nil && status == 0 {
		status = 1
	}
	os.Exit(status)
}

// run is main, with its streams.
func run(args []string, in io.Reader, out *bufio.Writer, errOut io.Writer) int {
	a := &app{name: base(args[0]), in: in, out: out, err: errOut}
	rest, ok := a.options(args[1:])
	if !ok {
		a.errorf("Couldn't process command line.")
		return 1
	}
	defer a.close()
	switch {
	case a.help:
		helpVerb(a, nil, nil, false)
		return 0
	case a.version:
		versionVerb(a, nil, nil, false)
		return 0
	case len(rest) == 0:
		a.usage()
		return 1
	}
	c := find(rest[0])
	rest = rest[1:]
	if c == nil {
		a.errorf("Unknown command.")
		a.usage()
		return 1
	}
	if len(rest) < c.min || c.max >= 0 && len(rest) > c.max {
		a.errorf("Incorrect number of arguments.")
		a.usage()
		return 1
	}
	a.command = c.name
	if !a.verbOptions() {
		a.errorf("Couldn't process command line.")
		return 1
	}
	return a.run(c, rest)
}

// run runs a verb, and prints the report that it may fill, as often as is asked for.
func (a *app) run(c *verb, args []string) int {
	// With a selection a verb runs once for each device that it selects.
	if a.selecting && c.repeat == manySelected {
		a.selected, a.columns = c, true
		c = find("info")
	}
	if a.columns && !a.newReport(c.name) {
		return 1
	}
	many := c.repeat != once && len(args) != 1 && (len(args) > 0 || !a.byOption())
	for n := a.count(); ; {
		ok := a.each(c, args, many)
		if a.concisePrinted {
			a.out.WriteByte('\n')
		}
		if a.report != nil {
			a.report.print(a)
		}
		if !ok {
			return 1
		}
		if n--; n == 0 {
			return 0
		}
		a.out.WriteByte('\n')
		a.out.Flush()
		a.pause()
	}
}

// each runs a verb for each argument, if it takes several.
func (a *app) each(c *verb, args []string, many bool) bool {
	for {
		if !c.run(a, args, nil, many) {
			a.errorf("Command failed.")
			return false
		}
		if c.repeat == once || len(args) <= 1 {
			return true
		}
		args = args[1:]
	}
}
