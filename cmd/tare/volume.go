package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

type volumeCreateOptions struct {
	request         volume.CreateRequest
	options, labels []string
}

func newVolumeCreateCommand(c *cli) *cobra.Command {
	var o volumeCreateOptions
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] [VOLUME]",
		Short: "Make a volume",
		Args:  rangeArgs(0, 1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			if len(args) == 1 {
				if o.request.Name != "" {
					return errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
				}
				o.request.Name = args[0]
			}
			if err := o.read(); err != nil {
				return err
			}
			made, err := cl.VolumeCreate(ctx, o.request)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, safe(made.Name))
			return err
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&o.request.Driver, "driver", "d", "local", "Driver of the volume")
	f.StringVar(&o.request.Name, "name", "", "Name of the volume")
	f.Lookup("name").Hidden = true
	f.StringArrayVar(&o.labels, "label", nil, "Set a label, as key=value")
	f.StringArrayVarP(&o.options, "opt", "o", nil, "Option of the driver, as name=value")
	opts.CallValues(f, "list", "label")
	opts.CallValues(f, "map", "opt")
	return cmd
}

// read makes the request of what the flags say.
func (o *volumeCreateOptions) read() (err error) {
	o.request.DriverOpts, o.request.Labels = map[string]string{}, map[string]string{}
	for _, v := range o.options {
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			return fmt.Errorf("invalid argument %q for \"-o, --opt\" flag: must be formatted as key=value", v)
		}
		o.request.DriverOpts[name] = value
	}
	for _, l := range o.labels {
		if l, err = opts.CheckLabel(l); err != nil {
			return err
		}
		name, value, _ := strings.Cut(l, "=")
		o.request.Labels[name] = value
	}
	return nil
}

type volumeLsOptions struct {
	quiet   bool
	format  string
	filters api.Filters
}

func newVolumeLsCommand(c *cli) *cobra.Command {
	o := volumeLsOptions{filters: api.Filters{}}
	cmd := &cobra.Command{
		Use:         "ls [OPTIONS]",
		Short:       "List volumes",
		Args:        noArgs,
		Annotations: aliases("volume ls", "volume list"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			if o.format == "" && !o.quiet {
				o.format = c.config.VolumesFormat
			}
			return runVolumeLs(ctx, cl, c.out, o)
		}),
	}
	f := cmd.Flags()
	f.VarP(filterFlag{o.filters}, "filter", "f", "Show only what meets a condition, such as dangling=true")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show names only")
	return cmd
}

func runVolumeLs(ctx context.Context, cl *client.Client, out io.Writer, o volumeLsOptions) error {
	list, err := cl.VolumeList(ctx, o.filters)
	if err != nil {
		return err
	}
	slices.SortFunc(list.Volumes, func(a, b volume.Volume) int { return compareNatural(a.Name, b.Name) })
	rows := make([]volumeRow, len(list.Volumes))
	for i := range list.Volumes {
		rows[i] = volumeRow{&list.Volumes[i]}
	}
	if o.quiet && (o.format == "" || strings.HasPrefix(o.format, "table")) {
		return format.Lines(out, volumeRow.Name, rows)
	}
	return format.Print(out, o.format, []format.Column[volumeRow]{
		{Title: "DRIVER", Value: volumeRow.Driver},
		{Title: "VOLUME NAME", Value: volumeRow.Name},
	}, volumeFields(), rows)
}

// volumeFields are what templates see of a volume.
func volumeFields() format.Fields[volumeRow] {
	return format.Fields[volumeRow]{Type: "*formatter.volumeContext", List: []format.Field[volumeRow]{
		format.Text("Name", "VOLUME NAME", volumeRow.Name),
		format.Text("Driver", "", volumeRow.Driver),
		format.Text("Scope", "", volumeRow.Scope),
		format.Text("Mountpoint", "", volumeRow.Mountpoint),
		format.Text("Labels", "", volumeRow.Labels),
		format.Text("Links", "", volumeRow.Links),
		format.Text("Size", "", volumeRow.Size),
		format.Text("Group", "", volumeRow.Group),
		format.Text("Availability", "", volumeRow.Availability),
		format.Text("Status", "", volumeRow.Status),
		format.Label(volumeRow.Label),
	}}
}

// volumeRow is a volume as "volume ls" and templates show it.
type volumeRow struct{ v *volume.Volume }

// unknown is what docker shows of what an engine does not tell.
const unknown = "N/A"

func (r volumeRow) Name() string             { return r.v.Name }
func (r volumeRow) Driver() string           { return r.v.Driver }
func (r volumeRow) Scope() string            { return r.v.Scope }
func (r volumeRow) Mountpoint() string       { return r.v.Mountpoint }
func (r volumeRow) Labels() string           { return pairs(r.v.Labels) }
func (r volumeRow) Links() string            { return unknown }
func (r volumeRow) Size() string             { return unknown }
func (r volumeRow) Group() string            { return unknown }
func (r volumeRow) Availability() string     { return unknown }
func (r volumeRow) Status() string           { return unknown }
func (r volumeRow) Label(name string) string { return r.v.Labels[name] }

func newVolumeRmCommand(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:         "rm [OPTIONS] VOLUME [VOLUME...]",
		Short:       "Remove volumes",
		Args:        minArgs(1),
		Annotations: aliases("volume rm", "volume remove"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return each(c.out, names, func(name string) error { return cl.VolumeRemove(ctx, name, force) })
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "It is no error if a volume does not exist")
	return cmd
}

func newVolumeUpdateCommand(c *cli) *cobra.Command {
	var availability string
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] [VOLUME]",
		Short: "Change a volume of a swarm, of which Tare has none",
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			if _, err := cl.VolumeInspectRaw(ctx, args[0]); err != nil {
				return err
			}
			//lint:ignore ST1005 docker's text
			return errors.New("Can only update cluster volumes")
		}),
	}
	cmd.Flags().StringVar(&availability, "availability", "active", "Whether the swarm uses it")
	return cmd
}
