package main

import "github.com/spf13/cobra"

// newBakeCommand stands in help only: newRootCommand forwards the command to buildx.
func newBakeCommand(*cli) *cobra.Command {
	return &cobra.Command{
		Use:                "bake [OPTIONS] [TARGET...]",
		Short:              "Build from a file, by the plugin buildx",
		Annotations:        aliases("buildx bake"),
		DisableFlagParsing: true,
		Run:                func(*cobra.Command, []string) {},
	}
}
