package main

import "github.com/spf13/cobra"

// newUnionCommand hands over to tare-union: union mounts need no engine.
func newUnionCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "union COMMAND",
		Short: "Mount unions of directories and change their branches",
		Long: `The commands are those of tare-union, which must be beside this program or in PATH: mount, umount,
ls, add, append, prepend, mod, del. "tare union help" describes them. Exit codes are those of
mount(8): 1 for wrong use, 32 for a failure.`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			union, err := c.beside("tare-union", args)
			if err != nil {
				return err
			}
			return become(union)
		},
	}
}
