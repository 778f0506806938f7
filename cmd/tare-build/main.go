// tare-build is the client of a build: it gives the engine's BuildKit the files,
// secrets and credentials that it asks for, and shows how far the build is. `tare
// build` runs it; it is a program of its own because what it is made of would slow
// down every other command.
//
//	TARE_BUILD_ENGINE   JSON of an engine: see engine
//	TARE_BUILD_CONFIG   path of config.json with the credentials
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		if status, ok := errors.AsType[statusError](err); ok {
			os.Exit(int(status))
		}
		if !errors.Is(err, context.Canceled) && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "ERROR:", strings.TrimPrefix(err.Error(), "ERROR: "))
		} else {
			fmt.Fprintln(os.Stderr, "ERROR: canceled")
		}
		os.Exit(1)
	}
}

// run does what we were started for.
func run(ctx context.Context) error {
	var e engine
	if err := json.Unmarshal([]byte(os.Getenv("TARE_BUILD_ENGINE")), &e); err != nil {
		return errors.New("run this program as `tare build`")
	}
	if e.Show != "" {
		return e.show(ctx, os.Stdout, e.Show)
	}
	return newCommand(&e).ExecuteContext(ctx)
}

func newCommand(e *engine) *cobra.Command {
	var o request
	cmd := &cobra.Command{
		Use:           "tare build [OPTIONS] PATH | URL | -",
		Short:         "Build an image from a Dockerfile",
		Args:          oneContext,
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Context, o.proxies = args[0], e.Proxies
			for _, note := range o.Notes {
				fmt.Fprintln(os.Stderr, "WARNING:", note)
			}
			return o.run(cmd.Context(), e)
		},
	}
	o.Add(cmd.Flags())
	cmd.Flags().SortFlags = true
	return cmd
}

func oneContext(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return fmt.Errorf("%q requires 1 argument.\n\nUsage:  %s\n\nRun 'tare build --help' for more information", "tare build", cmd.Use)
}
