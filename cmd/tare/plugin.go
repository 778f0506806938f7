package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/plugin"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

type pluginLsOptions struct {
	quiet, noTrunc bool
	format         string
	filters        api.Filters
}

func newPluginLsCommand(c *cli) *cobra.Command {
	o := pluginLsOptions{filters: api.Filters{}}
	cmd := &cobra.Command{
		Use:         "ls [OPTIONS]",
		Short:       "List plugins",
		Args:        noArgs,
		Annotations: aliases("plugin ls", "plugin list"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			if o.format == "" && !o.quiet {
				o.format = c.config.PluginsFormat
			}
			return runPluginLs(ctx, cl, c.out, o)
		}),
	}
	f := cmd.Flags()
	f.VarP(filterFlag{o.filters}, "filter", "f", "Show only what meets a condition, such as enabled=true")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show values at full length")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show plugin IDs only")
	return cmd
}

func runPluginLs(ctx context.Context, cl *client.Client, out io.Writer, o pluginLsOptions) error {
	list, err := cl.PluginList(ctx, o.filters)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b plugin.Plugin) int { return compareNatural(a.Name, b.Name) })
	rows := make([]pluginRow, len(list))
	for i := range list {
		rows[i] = pluginRow{&list[i], o.noTrunc}
	}
	if o.quiet && (o.format == "" || strings.HasPrefix(o.format, "table")) {
		return format.Lines(out, pluginRow.ID, rows)
	}
	return format.Print(out, o.format, []format.Column[pluginRow]{
		{Title: "ID", Value: pluginRow.ID},
		{Title: "NAME", Value: pluginRow.Name},
		{Title: "DESCRIPTION", Value: pluginRow.Description},
		{Title: "ENABLED", Value: pluginRow.Enabled},
	}, pluginFields(), rows)
}

// pluginFields are what templates see of a plugin.
func pluginFields() format.Fields[pluginRow] {
	return format.Fields[pluginRow]{Type: "*plugin.pluginContext", List: []format.Field[pluginRow]{
		format.Text("ID", "", pluginRow.ID),
		format.Text("Name", "", pluginRow.Name),
		format.Text("Description", "", pluginRow.Description),
		{Name: "Enabled", Value: func(r pluginRow) any { return r.p.Enabled }},
		format.Text("PluginReference", "IMAGE", func(r pluginRow) string { return r.p.PluginReference }),
	}}
}

// pluginRow is a plugin as "plugin ls" and templates show it.
type pluginRow struct {
	p    *plugin.Plugin
	full bool // nothing is shortened
}

// descriptionLength is how much docker shows of a description.
const descriptionLength = 45

func (r pluginRow) ID() string {
	if r.full {
		return r.p.ID
	}
	return format.ShortID(r.p.ID)
}

func (r pluginRow) Name() string    { return r.p.Name }
func (r pluginRow) Enabled() string { return strconv.FormatBool(r.p.Enabled) }

func (r pluginRow) Description() string {
	line := strings.NewReplacer("\n", "", "\r", "").Replace(r.p.Config.Description)
	if r.full {
		return line
	}
	return format.Ellipsis(line, descriptionLength)
}

func newPluginEnableCommand(c *cli) *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:   "enable [OPTIONS] PLUGIN",
		Short: "Start a plugin",
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			if timeout < 0 {
				return fmt.Errorf("negative timeout %d is invalid", timeout)
			}
			return each(c.out, names, func(name string) error { return cl.PluginEnable(ctx, name, timeout) })
		}),
	}
	cmd.Flags().IntVar(&timeout, "timeout", 30, "Seconds in which the plugin must answer")
	return cmd
}

func newPluginDisableCommand(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "disable [OPTIONS] PLUGIN",
		Short: "Stop a plugin",
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return each(c.out, names, func(name string) error { return cl.PluginDisable(ctx, name, force) })
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Stop a plugin that is in use")
	return cmd
}

func newPluginRmCommand(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:         "rm [OPTIONS] PLUGIN [PLUGIN...]",
		Short:       "Remove plugins",
		Args:        minArgs(1),
		Annotations: aliases("plugin rm", "plugin remove"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return each(c.out, names, func(name string) error { return cl.PluginRemove(ctx, name, force) })
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Remove a plugin that is enabled")
	return cmd
}

func newPluginSetCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "set PLUGIN KEY=VALUE [KEY=VALUE...]",
		Short: "Change settings of a plugin",
		Args:  minArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return cl.PluginSet(ctx, args[0], args[1:])
		}),
	}
}

func newPluginPushCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] PLUGIN[:TAG]",
		Short: "Send a plugin to a registry",
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			if _, err := normalize(args[0]); err != nil {
				return err
			}
			if strings.Contains(args[0], "@") {
				return fmt.Errorf("invalid name: %s", args[0])
			}
			p := newProgress(c.out, false)
			err := cl.PluginPush(ctx, withTag(args[0]), c.credentials(args[0]), p.Show)
			return errors.Join(p.Close(), err)
		}),
	}
	opts.AddUntrusted(cmd.Flags())
	return cmd
}
