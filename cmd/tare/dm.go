package main

import "github.com/spf13/cobra"

// newDMCommand hands over to tare-dm: device mapper needs no engine.
func newDMCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "dm COMMAND",
		Short: "Make block devices of others, by device mapper",
		Long: `The commands, options and output are those of dmsetup(8), and the program behind them, tare-dm, which
must be beside this one or in PATH, is dmsetup for scripts when it is called so. "tare dm help" lists
them. Exit codes: 0, 1 for a failure.`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			dm, err := c.beside("tare-dm", args)
			if err != nil {
				return err
			}
			return become(dm)
		},
	}
}
