//go:build man

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// This file is in the tare that `make man` runs, and in no other: what makes the
// pages is half as large as the rest of the program.
func init() {
	commands = append(commands, command{name: "man", build: newManCommand})
}

func newManCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages of all commands",
		Hidden: true,
		Args:   exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return c.writeManPages(args[0])
		},
	}
}

// writeManPages writes tare.1, tare-run.1 and so on. One commit gives the same pages
// everywhere.
func (c *cli) writeManPages(dir string) error {
	date, err := time.Parse(time.RFC3339, built)
	if err != nil {
		return fmt.Errorf("the time of the build: %w", err)
	}
	os.Setenv("DOCKER_CONFIG", filepath.Join("~", ".docker")) // defaults of flags say so
	root := newRootCommand(c, nil)
	prepare(root)
	return doc.GenManTree(root, &doc.GenManHeader{Title: "TARE", Section: "1", Date: &date, Source: "Tare " + version, Manual: "Tare"}, dir)
}

// prepare leaves out what is said below the pages' end, and names pages by commands.
func prepare(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	if cmd.Long == "" {
		cmd.Long = cmd.Short
	}
	if also := cmd.Annotations["aliases"]; also != "" {
		cmd.Long += "\n\nThe same command: " + also
	}
	for _, sub := range cmd.Commands() {
		prepare(sub)
	}
}
