package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

// aboutExecs reports whether the first argument of exec asks for the commands
// that run in containers: "ls" and "kill" do, unless a container is called that.
func (c *cli) aboutExecs(ctx context.Context, word string) bool {
	if word != "ls" && word != "kill" {
		return false
	}
	cl, err := c.connect()
	if err != nil {
		return false // said again by what follows
	}
	_, err = cl.ContainerInspect(ctx, word)
	return client.IsNotFound(err)
}

func runAboutExecs(cmd *cobra.Command, c *cli, word string, args []string) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	if word == "kill" {
		return execKill(cmd, c, cl, args)
	}
	return execLs(cmd, c, cl, args)
}

type execLsOptions struct {
	format         string
	noTrunc, quiet bool
}

func execLs(cmd *cobra.Command, c *cli, cl *client.Client, args []string) error {
	var o execLsOptions
	f := pflag.NewFlagSet("ls", pflag.ContinueOnError)
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show values at full length")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show IDs only")
	if err := f.Parse(args); err != nil {
		return flagError(cmd, err)
	}
	if f.NArg() != 1 {
		return wrongArgs(cmd, "ls requires 1 argument")
	}
	return runExecLs(cmd.Context(), cl, c.out, o, f.Arg(0))
}

func runExecLs(ctx context.Context, cl *client.Client, out io.Writer, o execLsOptions, name string) error {
	list, err := cl.ExecList(ctx, name)
	if err != nil {
		return err
	}
	rows := make([]execRow, len(list))
	for i := range list {
		rows[i] = execRow{x: &list[i], full: o.noTrunc, now: time.Now()}
	}
	if o.quiet {
		return format.Lines(out, execRow.ID, rows)
	}
	return format.Print(out, o.format, []format.Column[execRow]{
		{Title: "EXEC ID", Value: execRow.ID},
		{Title: "PID", Value: execRow.Pid},
		{Title: "USER", Value: execRow.User},
		{Title: "STARTED", Value: execRow.RunningFor},
		{Title: "COMMAND", Value: execRow.Command},
	}, execFields(), rows)
}

// execFields are what templates see of a command that runs in a container.
func execFields() format.Fields[execRow] {
	return format.Fields[execRow]{Type: "exec", List: []format.Field[execRow]{
		format.Text("ID", "EXEC ID", execRow.ID),
		format.Text("Pid", "", execRow.Pid),
		format.Text("User", "", execRow.User),
		format.Text("StartedAt", "STARTED AT", execRow.StartedAt),
		format.Text("RunningFor", "STARTED", execRow.RunningFor),
		format.Text("Running", "", execRow.Running),
		format.Text("Command", "", execRow.Command),
	}}
}

// execRow is a command that runs in a container.
type execRow struct {
	x    *api.ExecSummary
	full bool
	now  time.Time
}

func (r execRow) ID() string {
	if r.full {
		return r.x.ID
	}
	return format.ShortID(r.x.ID)
}

func (r execRow) Pid() string     { return strconv.Itoa(r.x.Pid) }
func (r execRow) User() string    { return r.x.User }
func (r execRow) Running() string { return strconv.FormatBool(r.x.Running) }

func (r execRow) StartedAt() string {
	if r.x.Started.IsZero() {
		return ""
	}
	return r.x.Started.String()
}

func (r execRow) RunningFor() string {
	if r.x.Started.IsZero() {
		return ""
	}
	return format.Ago(r.x.Started, r.now)
}

func (r execRow) Command() string {
	command := strings.Join(r.x.Command, " ")
	if !r.full {
		command = format.Ellipsis(command, 30)
	}
	return strconv.Quote(command)
}

func execKill(cmd *cobra.Command, c *cli, cl *client.Client, args []string) error {
	var signal string
	var all bool
	f := pflag.NewFlagSet("kill", pflag.ContinueOnError)
	f.StringVarP(&signal, "signal", "s", "", "Signal to send")
	f.BoolVar(&all, "all", false, "Send it to all commands of the container")
	if err := f.Parse(args); err != nil {
		return flagError(cmd, err)
	}
	if f.NArg() == 0 || all != (f.NArg() == 1) {
		return wrongArgs(cmd, "kill requires a container and either --all or the IDs of its commands")
	}
	return runExecKill(cmd.Context(), cl, c.out, signal, f.Arg(0), f.Args()[1:])
}

// runExecKill sends a signal to commands by their ids or unique beginnings of
// them; to all that run if there are none.
func runExecKill(ctx context.Context, cl *client.Client, out io.Writer, signal, name string, ids []string) error {
	list, err := cl.ExecList(ctx, name)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		for _, x := range list {
			if x.Running {
				ids = append(ids, x.ID)
			}
		}
	}
	return each(out, ids, func(id string) error {
		var found []string
		for _, x := range list {
			if strings.HasPrefix(x.ID, id) {
				found = append(found, x.ID)
			}
		}
		if len(found) > 1 {
			return fmt.Errorf("%s is the beginning of %d IDs of commands in %s", id, len(found), name)
		}
		if len(found) == 0 {
			return &exitError{1, fmt.Sprintf("No such exec instance in %s: %s", name, id)} // the engine's words
		}
		return cl.ExecKill(ctx, found[0], signal)
	})
}
