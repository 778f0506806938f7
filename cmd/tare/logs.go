package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

type logsOptions struct {
	api.LogsOptions
	since, until string
}

func newLogsCommand(c *cli) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:         "logs [OPTIONS] CONTAINER",
		Short:       "Show what a container has written",
		Args:        exactArgs(1),
		Annotations: aliases("container logs", "logs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return runLogs(cmd.Context(), cl, c.out, c.err, o, args[0])
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Details, "details", false, "Show the labels and variables that the log was asked to keep")
	f.BoolVarP(&o.Follow, "follow", "f", false, "Go on with what is written from now on")
	f.StringVar(&o.since, "since", "", `Begin at a time, such as "2026-01-02T13:23:37Z", or "42m" ago`)
	f.StringVarP(&o.Tail, "tail", "n", "all", "Number of lines to show from the end")
	f.BoolVarP(&o.Timestamps, "timestamps", "t", false, "Show the time of each line")
	f.StringVar(&o.until, "until", "", `End at a time, such as "2026-01-02T13:23:37Z", or "42m" ago`)
	return cmd
}

func runLogs(ctx context.Context, cl *client.Client, out, errOut io.Writer, o logsOptions, name string) error {
	if err := o.times(time.Now()); err != nil {
		return err
	}
	o.Stdout, o.Stderr = true, true
	ct, err := cl.ContainerInspect(ctx, name)
	if err != nil {
		return err
	}
	// By id: a rename in between changes nothing.
	log, err := cl.ContainerLogs(ctx, ct.ID, o.LogsOptions)
	if err != nil {
		return err
	}
	defer log.Close()
	if ct.Config.Tty {
		_, err = io.Copy(out, log)
	} else {
		err = api.Demux(log, out, errOut, nil)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the engine ended the log early: %w", err)
	}
	return err
}

// times reads --since and --until.
func (o *logsOptions) times(now time.Time) (err error) {
	if o.since != "" {
		if o.Since, err = api.ParseTime(o.since, now); err != nil {
			return fmt.Errorf("invalid value for \"since\": %w", err)
		}
	}
	if o.until != "" {
		if o.Until, err = api.ParseTime(o.until, now); err != nil {
			return fmt.Errorf("invalid value for \"until\": %w", err)
		}
	}
	return nil
}
