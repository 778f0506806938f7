package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
)

// newUnionCommand hands over to tare-union: union mounts need no engine.
func newUnionCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "union COMMAND",
		Short: "Mount unions of directories and change their branches",
		Long: `Mount unions of directories and change their branches

The commands are those of tare-union, which must be beside this program or in PATH: mount, umount,
ls, add, append, prepend, mod, del. "tare union help" describes them. Exit codes are those of
mount(8): 1 for wrong use, 32 for a failure.`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			return runBeside(c, "tare-union", args)
		},
	}
}

// runBeside runs a program of ours that is beside this one, or else in PATH, with
// our streams.
func runBeside(c *cli, name string, args []string) error {
	path := name
	if self, err := os.Executable(); err == nil {
		if at := filepath.Join(filepath.Dir(self), name); isFile(at) {
			path = at
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.out, c.err
	err := cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return &exitError{code: e.ExitCode()}
	}
	if err != nil {
		return fmt.Errorf("%s must be beside this program or in PATH: %w", name, err)
	}
	return nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}
