package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func newHelpCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		RunE: func(own *cobra.Command, args []string) error {
			cmd, rest, err := newRootCommand(c, args).Find(args)
			if (err != nil || len(rest) > 0) && !c.builtin(args[0]) {
				line := append(append(c.global.again(), "help"), args...)
				if found, err := c.runPlugin(own.Context(), args[0], line, nil); found || err != nil {
					return err
				}
			}
			if err != nil || len(rest) > 0 {
				return &exitError{1, "unknown help topic: " + strings.Join(args, " ")}
			}
			return cmd.Help()
		},
	}
}
