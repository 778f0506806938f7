package main

import (
	"io"
	"os"
	"runtime"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const name = "tare-runtime"

func (a *app) printVersion() int {
	os.Stdout.WriteString(name + " version " + versionText())
	return 0
}

func versionText() string {
	return version + "\ncommit: " + commit + "\nspec: " + specs.Version + "\ngo: " + runtime.Version() + "\n"
}

// usage prints how a command is called, and logs what was wrong.
func (a *app) usage(c *command, err error) int {
	os.Stdout.WriteString("Incorrect Usage.\n\n")
	if c == nil {
		a.help(nil)
	} else {
		a.commandHelp(os.Stdout, c)
	}
	return a.fail(exitFailure, err)
}

func (a *app) help(args []string) int {
	if len(args) > 0 {
		if c := commandOf(args[0]); c != nil {
			return a.commandHelp(os.Stdout, c)
		}
	}
	var b strings.Builder
	b.WriteString("NAME:\n   " + name + " - Open Container Initiative runtime\n\nUSAGE:\n   " + name +
		" [global options] command [command options] [arguments...]\n\nCOMMANDS:\n")
	for _, c := range commands() {
		b.WriteString("   " + c.name + strings.Repeat(" ", 12-len(c.name)) + c.usage + "\n")
	}
	b.WriteString("\nGLOBAL OPTIONS:\n")
	writeFlags(&b, globalFlags)
	os.Stdout.WriteString(b.String())
	return 0
}

func (a *app) commandHelp(out io.StringWriter, c *command) int {
	var b strings.Builder
	b.WriteString("NAME:\n   " + name + " " + c.name + " - " + c.usage + "\n\nUSAGE:\n   " + name + " " + c.name)
	if len(c.flags) > 0 {
		b.WriteString(" [command options]")
	}
	b.WriteString(" " + c.args + "\n")
	if len(c.flags) > 0 {
		b.WriteString("\nOPTIONS:\n")
		writeFlags(&b, c.flags)
	}
	if _, err := out.WriteString(b.String()); err != nil {
		return exitFailure
	}
	return 0
}

func writeFlags(b *strings.Builder, flags []flag) {
	width := 0
	for _, f := range flags {
		width = max(width, len(flagText(f)))
	}
	for _, f := range flags {
		t := flagText(f)
		b.WriteString("   " + t + strings.Repeat(" ", width-len(t)+2) + f.usage + "\n")
	}
}

func flagText(f flag) string {
	value := ""
	if f.value {
		value = " value"
	}
	t := "--" + f.name + value
	if f.short != "" {
		t += ", -" + f.short + value
	}
	return t
}
