package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type psOptions struct {
	all, latest, noTrunc, quiet, size bool
	last                              int
	format                            string
	filters                           api.Filters
}

func newPsCommand(c *cli) *cobra.Command {
	o := psOptions{filters: api.Filters{}}
	cmd := &cobra.Command{
		Use:         "ps [OPTIONS]",
		Short:       "List containers",
		Args:        noArgs,
		Annotations: aliases("container ls", "container list", "container ps", "ps"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			if o.format == "" && !o.quiet {
				o.format = c.config.PsFormat
			}
			if o.format != "" && o.quiet {
				fmt.Fprintln(c.err, "WARNING: Ignoring custom format, because both --format and --quiet are set.")
			}
			return runPs(ctx, cl, c.out, c.err, o)
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	f.VarP(filterFlag{o.filters}, "filter", "f", "Show only what meets a condition, such as status=exited")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.IntVarP(&o.last, "last", "n", -1, "Show the n last created containers, in any state")
	f.BoolVarP(&o.latest, "latest", "l", false, "Show the last created container, in any state")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show values at full length")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show container IDs only")
	f.BoolVarP(&o.size, "size", "s", false, "Show the size of the files")
	return cmd
}

func runPs(ctx context.Context, cl *client.Client, out, notes io.Writer, o psOptions) error {
	if o.latest && o.last < 0 {
		o.last = 1
	}
	if err := format.Check(o.format, containerFields(), containerRow{c: &container.Summary{}}); err != nil {
		return err
	}
	list, err := cl.ContainerList(ctx, api.ListOptions{
		All:     o.all,
		Limit:   o.last,
		Size:    o.size || strings.Contains(o.format, ".Size"),
		Filters: o.filters,
		Counted: sizesOf(notes),
	})
	if err != nil {
		return err
	}
	now := time.Now()
	rows := make([]containerRow, len(list))
	for i := range list {
		rows[i] = containerRow{c: &list[i], full: o.noTrunc, now: now}
	}
	if o.quiet {
		return format.Lines(out, containerRow.ID, rows)
	}
	return format.Print(out, o.format, containerColumns(o.size), containerFields(), rows)
}

func containerColumns(size bool) []format.Column[containerRow] {
	columns := []format.Column[containerRow]{
		{Title: "CONTAINER ID", Value: containerRow.ID},
		{Title: "IMAGE", Value: containerRow.Image},
		{Title: "COMMAND", Value: containerRow.Command},
		{Title: "CREATED", Value: containerRow.RunningFor},
		{Title: "STATUS", Value: containerRow.Status},
		{Title: "PORTS", Value: containerRow.Ports},
		{Title: "NAMES", Value: containerRow.Names},
	}
	if size {
		columns = append(columns, format.Column[containerRow]{Title: "SIZE", Value: containerRow.Size})
	}
	return columns
}

// containerFields are what templates see of a container.
func containerFields() format.Fields[containerRow] {
	return format.Fields[containerRow]{Type: "*formatter.ContainerContext", List: []format.Field[containerRow]{
		format.Text("ID", "CONTAINER ID", containerRow.ID),
		format.Text("Names", "", containerRow.Names),
		format.Text("Image", "", containerRow.Image),
		format.Text("Command", "", containerRow.Command),
		format.Text("CreatedAt", "CREATED AT", containerRow.CreatedAt),
		format.Text("RunningFor", "CREATED", containerRow.RunningFor),
		format.Text("Ports", "", containerRow.Ports),
		format.Text("State", "", containerRow.State),
		format.Text("Status", "", containerRow.Status),
		format.Text("Size", "", containerRow.Size),
		format.Text("Labels", "", containerRow.Labels),
		format.Text("Mounts", "", containerRow.Mounts),
		format.Text("LocalVolumes", "LOCAL VOLUMES", containerRow.LocalVolumes),
		format.Text("Networks", "", containerRow.Networks),
		{Name: "Platform", Value: containerRow.Platform},
		format.Label(containerRow.Label),
	}}
}

// containerRow is a container as ps and templates show it.
type containerRow struct {
	c    *container.Summary
	full bool // nothing is shortened
	now  time.Time
}

func (r containerRow) ID() string {
	if r.full {
		return r.c.ID
	}
	return format.ShortID(r.c.ID)
}

// Names lists the container's own name and, in full, what links call it.
func (r containerRow) Names() string {
	var names []string
	for _, n := range r.c.Names {
		n = strings.TrimPrefix(n, "/")
		if r.full || !strings.Contains(n, "/") {
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}

// Image is the reference the container was made from, unless that names
// another image by now.
func (r containerRow) Image() string {
	switch image := r.c.Image; {
	case image == "":
		return "<no image>"
	case r.full:
		return image
	case image == r.c.ImageID, "sha256:"+image == r.c.ImageID:
		return format.ShortID(image)
	default:
		// The digest behind a name is too long for a table.
		name, _, digested := strings.Cut(image, "@sha256:")
		if digested {
			return name
		}
		return image
	}
}

func (r containerRow) Command() string {
	command := r.c.Command
	if !r.full {
		command = format.Ellipsis(command, 20)
	}
	return strconv.Quote(command)
}

func (r containerRow) CreatedAt() string  { return time.Unix(r.c.Created, 0).String() }
func (r containerRow) RunningFor() string { return format.Ago(time.Unix(r.c.Created, 0), r.now) }
func (r containerRow) Ports() string      { return portList(r.c.Ports) }
func (r containerRow) State() string      { return string(r.c.State) }
func (r containerRow) Status() string     { return r.c.Status }

func (r containerRow) Size() string {
	own := format.Size(r.c.SizeRw)
	if r.c.SizeRootFs > 0 {
		return own + " (virtual " + format.Size(r.c.SizeRootFs) + ")"
	}
	return own
}

func (r containerRow) Labels() string { return pairs(r.c.Labels) }

// Label returns the value of one label.
func (r containerRow) Label(name string) string { return r.c.Labels[name] }

func (r containerRow) Mounts() string {
	var names []string
	for _, m := range r.c.Mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		}
		if !r.full {
			name = format.Ellipsis(name, 15)
		}
		names = append(names, name)
	}
	return strings.Join(names, ",")
}

// LocalVolumes is the number of volumes kept by the engine itself.
func (r containerRow) LocalVolumes() string {
	n := 0
	for _, m := range r.c.Mounts {
		if m.Driver == "local" && (m.Type == "" || m.Type == mount.TypeVolume) {
			n++
		}
	}
	return strconv.Itoa(n)
}

func (r containerRow) Networks() string {
	if r.c.NetworkSettings == nil {
		return ""
	}
	var names []string
	for name := range r.c.NetworkSettings.Networks {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// Platform is what the image was made for, where the engine says so.
func (r containerRow) Platform() any {
	if d := r.c.ImageManifestDescriptor; d != nil && d.Platform != nil {
		return d.Platform
	}
	return nil
}

// pairs shows labels in a stable order.
func pairs(m map[string]string) string {
	list := make([]string, 0, len(m))
	for k, v := range m {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}
