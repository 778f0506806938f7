package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/cmd/tare/credential"
	"github.com/tare-engine/tare/cmd/tare/format"
)

func newLogoutCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "logout [SERVER]",
		Short: "Log out from a registry",
		Long:  "SERVER is a host with its port; without one it is Docker Hub.",
		Args:  rangeArgs(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			return runLogout(c, credential.ServerOf(strings.Join(args, "")))
		},
	}
}

// runLogout forgets the credentials for a server. As with docker's command line
// it is no failure if that cannot be done everywhere.
func runLogout(c *cli, server string) error {
	store, err := c.credentialStore()
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out, "Removing login credentials for", safe(server))
	if err := store.Erase(server); err != nil {
		fmt.Fprintf(c.err, "WARNING: could not erase credentials:\n%s\n", format.EscapeLines(err.Error()))
	}
	return nil
}
