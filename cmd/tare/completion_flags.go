package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

// flagNames says what the values of flags name, in all commands that have them.
var flagNames = map[string]string{
	"context":      namesContexts,
	"config-from":  namesNetworks,
	"from":         namesContexts,
	"link":         namesContainers,
	"log-driver":   namesLogDrivers,
	"net":          namesNetworks,
	"network":      namesNetworks,
	"volumes-from": namesContainers,
}

// flagWords are the values that flags can have.
var flagWords = map[string]string{
	"cgroupns":  "host private",
	"ipc":       "none private shareable host container:",
	"log-level": "debug info warn error fatal",
	"pid":       "host container:",
	"progress":  "auto plain quiet rawjson tty",
	"pull":      "always missing never",
	"restart":   "always no on-failure unless-stopped",
	"signal":    "SIGHUP SIGINT SIGKILL SIGQUIT SIGSTOP SIGTERM SIGUSR1 SIGUSR2",
	"type":      "container image network plugin volume",
	"userns":    "host auto",
}

// completeFlags has the flags of a command completed. It is called when a shell asks.
func (c *cli) completeFlags(cmd *cobra.Command) {
	register := func(name string, complete cobra.CompletionFunc) {
		if f := cmd.Flags().Lookup(name); f != nil && f.NoOptDefVal == "" {
			_ = cmd.RegisterFlagCompletionFunc(name, complete) // it has one already
		}
	}
	for name, what := range flagNames {
		register(name, c.completer(what, false))
	}
	for name, words := range flagWords {
		register(name, cobra.FixedCompletions(strings.Fields(words), cobra.ShellCompDirectiveNoFileComp))
	}
}

// networkThenContainer completes the arguments of network connect and disconnect.
func (c *cli) networkThenContainer(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	what := []string{namesNetworks, namesContainers}
	if len(args) >= len(what) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completer(what[len(args)], false)(cmd, args, word)
}

// contextNames lists the contexts there are.
func (c *cli) contextNames(context.Context) ([]string, error) {
	config, err := c.settings()
	if err != nil {
		return nil, err
	}
	rows, err := c.contextRows(config)
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Name()
	}
	return names, err
}
