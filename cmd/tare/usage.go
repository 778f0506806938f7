package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moby/term"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageLine is "tare stop [OPTIONS] CONTAINER...".
func usageLine(cmd *cobra.Command) string {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	line := cmd.CommandPath()
	if rest != "" {
		line += " " + rest
	}
	return line
}

// flagError explains a flag that makes no sense.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) { // -h, where it means nothing else
		fmt.Fprintln(cmd.OutOrStdout(), "Flag shorthand -h has been deprecated, use --help")
		return errors.Join(cmd.Help(), &exitError{0, ""})
	}
	return &exitError{125, fmt.Sprintf("%v\n\nUsage:  %s\n\nRun '%s --help' for more information", err, usageLine(cmd), cmd.CommandPath())}
}

// unknownCommand explains a word that is no command.
func unknownCommand(cmd *cobra.Command, word string) error {
	path := cmd.CommandPath()
	if cmd.HasParent() {
		return &exitError{1, fmt.Sprintf("%s: unknown command: %s %s\n\nUsage:  %s\n\nRun '%s --help' for more information", program, path, word, path, path)}
	}
	return &exitError{1, fmt.Sprintf("%s: unknown command: %s %s\n\nRun '%s --help' for more information", program, path, word, path)}
}

// wrongArgs explains a wrong number of arguments.
func wrongArgs(cmd *cobra.Command, wants string) error { return argsError(cmd, wants, "Run") }

// tooFewArgs is wrongArgs in docker's words for commands that take any number.
func tooFewArgs(cmd *cobra.Command, n int) error {
	return argsError(cmd, "requires at least "+count(n), "See")
}

func argsError(cmd *cobra.Command, wants, verb string) error {
	path := cmd.CommandPath()
	return &exitError{1, fmt.Sprintf("%s: '%s' %s\n\nUsage:  %s\n\n%s '%s --help' for more information", program, path, wants, usageLine(cmd), verb, path)}
}

// noArgs, exactArgs, minArgs and maxArgs check the number of arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return wrongArgs(cmd, "accepts no arguments")
}

func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return wrongArgs(cmd, "requires "+count(n))
	}
}

func minArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return tooFewArgs(cmd, n)
	}
}

func rangeArgs(from, to int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= from && len(args) <= to {
			return nil
		}
		if from == 0 {
			return wrongArgs(cmd, "requires at most "+count(to))
		}
		return wrongArgs(cmd, fmt.Sprintf("requires at least %d and at most %s", from, count(to)))
	}
}

func count(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// help prints the help of a command. That of all commands names plugins as well.
func (c *cli) help(cmd *cobra.Command, _ []string) {
	if !cmd.HasParent() && cmd.HasSubCommands() {
		c.addPluginStubs(cmd)
		if b, _, err := cmd.Find([]string{builderPlugin}); err != nil || b == cmd {
			for _, sub := range cmd.Commands() {
				sub.Hidden = sub.Hidden || sub.Name() == "bake"
			}
		}
	}
	printHelp(cmd)
}

func printHelp(cmd *cobra.Command) {
	w := cmd.OutOrStdout()
	usage := usageLine(cmd)
	if !cmd.HasParent() {
		usage = program + " [OPTIONS] COMMAND"
	}
	fmt.Fprintf(w, "Usage:  %s\n\n%s\n", usage, cmd.Short)
	if cmd.Long != "" {
		fmt.Fprintf(w, "\n%s\n", cmd.Long)
	}
	if also := cmd.Annotations["aliases"]; also != "" {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", also)
	}
	if !cmd.HasParent() {
		printCommands(w, cmd)
		fmt.Fprintf(w, "\nGlobal Options:\n%s", flagUsages(cmd.Flags()))
	} else {
		if f := flagUsages(cmd.Flags()); f != "" && !cmd.HasSubCommands() {
			fmt.Fprintf(w, "\nOptions:\n%s", f)
		}
		printCommands(w, cmd)
	}
	if cmd.HasSubCommands() {
		fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", cmd.CommandPath())
	}
}

// printCommands lists the commands below cmd under their headings. A star behind a
// name says that it is a plugin.
func printCommands(w io.Writer, cmd *cobra.Command) {
	var headings []string
	lists := map[string][]*cobra.Command{}
	width := 11
	for _, sub := range cmd.Commands() {
		if sub.Hidden {
			continue
		}
		g := sub.Annotations["group"]
		if lists[g] == nil {
			headings = append(headings, g)
		}
		lists[g] = append(lists[g], sub)
		width = max(width, len(shownName(sub)))
	}
	for _, g := range headings {
		if g == management {
			slices.SortStableFunc(lists[g], func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
		}
		fmt.Fprintf(w, "\n%s:\n", cmp.Or(g, others))
		for _, sub := range lists[g] {
			fmt.Fprintf(w, "  %-*s %s\n", width, shownName(sub), safe(sub.Short))
		}
	}
}

func shownName(cmd *cobra.Command) string {
	if cmd.Annotations["group"] == management && cmd.Annotations["plugin"] != "" {
		return cmd.Name() + "*"
	}
	return cmd.Name()
}

// flagUsages describes flags, wrapped to the terminal; --help itself is left
// out, as it has been found.
func flagUsages(fs *pflag.FlagSet) string {
	if f := fs.Lookup("help"); f != nil {
		f.Hidden = true
	}
	width := 80
	if ws, err := term.GetWinsize(0); err == nil && ws.Width > 0 {
		width = int(ws.Width)
	}
	if text := strings.TrimRight(fs.FlagUsagesWrapped(width-1), "\n"); text != "" {
		return text + "\n"
	}
	return ""
}
