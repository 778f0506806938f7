// Command tare-runtime is a runtime of OCI bundles with the command line of
// runc: containerd, CRI-O, podman and dockerd can be told to use it. It knows
// no engine; see package oci.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/systemd"
	"github.com/tare-engine/tare/internal/oci"
)

var version, commit = "dev", "unknown"

// exit codes beside those of containers' processes.
const (
	exitFailure = 1
	exitExec    = 255 // the process of "exec" never ran
	exitCommand = 3   // no such command
)

func main() {
	debug.SetGCPercent(-1) // ends before it would be worth a collection
	os.Exit(run(os.Args[1:]))
}

// app is what the global flags say.
type app struct {
	root    oci.Root
	log     *logger
	systemd bool
}

func run(args []string) int {
	if len(args) > 0 && args[0] == "git" {
		return runGit(args[1:])
	}
	a := &app{log: &logger{}}
	rest, f, err := parse(globalFlags, args, false)
	if err != nil {
		return a.usage(nil, err)
	}
	a.root = oci.Root{Dir: f.text("root", defaultRoot), Units: new(systemd.Units)}
	a.systemd = f.has("systemd-cgroup")
	if err := a.log.open(f.text("log", ""), f.text("log-format", "text")); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return exitFailure
	}
	if f.has("debug") {
		a.root.Debug = a.log.debug
		a.log.debug("%s %s (%s): %q", name, version, commit, args)
	}
	if err := refused(f); err != nil {
		return a.fail(exitFailure, err)
	}
	switch {
	case f.has("version"):
		return a.printVersion()
	case f.has("help") || len(rest) == 0:
		return a.help(rest)
	}
	// Between clone and execve our children are ours: nobody shall read them.
	if err := process.Hide(); err != nil {
		return a.fail(exitFailure, err)
	}
	return a.command(rest[0], rest[1:])
}

// refused are flags of runc's that have no meaning here: silence would be a
// promise.
func refused(f values) error {
	if f.text("criu", "") != "" {
		return errors.New("--criu is not supported: there are no checkpoints")
	}
	rootless := f.text("rootless", "auto")
	if rootless == "auto" {
		return nil
	}
	on, err := strconv.ParseBool(rootless)
	if err != nil {
		return fmt.Errorf("invalid value %q for --rootless: want true, false or auto", rootless)
	}
	if on {
		return errors.New("--rootless=true is not supported: this runtime needs root, and fails where it lacks rights")
	}
	return nil
}

func (a *app) command(name string, args []string) int {
	if name == "help" || name == "h" {
		return a.help(args)
	}
	c := commandOf(name)
	if c == nil {
		return a.fail(exitCommand, errors.New("No help topic for '"+name+"'"))
	}
	rest, f, err := parse(c.flags, args, !c.inOrder)
	if err != nil {
		return a.usage(c, err)
	}
	if f.has("help") {
		return a.commandHelp(os.Stdout, c)
	}
	if err := c.checkArgs(len(rest)); err != nil {
		return a.usage(c, err)
	}
	if c.spawns {
		if err := oci.Seal(); err != nil {
			return a.fail(exitFailure, err)
		}
	}
	code, err := c.run(a, f, rest)
	if err != nil {
		if code == 0 {
			code = exitFailure
		}
		if c.prefix != "" {
			err = errors.New(c.prefix + err.Error())
		}
		return a.fail(code, err)
	}
	return code
}

// fail logs the error, and says it on stderr too if the log is elsewhere.
func (a *app) fail(code int, err error) int {
	a.log.write("error", err.Error())
	return code
}

func (a *app) warn(format string, args ...any) { a.log.warn(format, args...) }
