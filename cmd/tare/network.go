package main

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type networkLsOptions struct {
	noTrunc, quiet bool
	format         string
	filters        api.Filters
}

func newNetworkLsCommand(c *cli) *cobra.Command {
	o := networkLsOptions{filters: api.Filters{}}
	cmd := &cobra.Command{
		Use:         "ls [OPTIONS]",
		Short:       "List networks",
		Args:        noArgs,
		Annotations: aliases("network ls", "network list"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			if o.format == "" && !o.quiet {
				o.format = c.config.NetworksFormat
			}
			return runNetworkLs(ctx, cl, c.out, o)
		}),
	}
	f := cmd.Flags()
	f.VarP(filterFlag{o.filters}, "filter", "f", "Show only what meets a condition, such as driver=bridge")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show values at full length")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show network IDs only")
	return cmd
}

func runNetworkLs(ctx context.Context, cl *client.Client, out io.Writer, o networkLsOptions) error {
	list, err := cl.NetworkList(ctx, o.filters)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b network.Inspect) int { return compareNatural(a.Name, b.Name) })
	rows := make([]networkRow, len(list))
	for i := range list {
		rows[i] = networkRow{n: &list[i], full: o.noTrunc}
	}
	if o.quiet && (o.format == "" || strings.HasPrefix(o.format, "table")) {
		return format.Lines(out, networkRow.ID, rows)
	}
	return format.Print(out, o.format, []format.Column[networkRow]{
		{Title: "NETWORK ID", Value: networkRow.ID},
		{Title: "NAME", Value: networkRow.Name},
		{Title: "DRIVER", Value: networkRow.Driver},
		{Title: "SCOPE", Value: networkRow.Scope},
	}, networkFields(), rows)
}

// networkFields are what templates see of a network.
func networkFields() format.Fields[networkRow] {
	return format.Fields[networkRow]{Type: "*network.networkContext", List: []format.Field[networkRow]{
		format.Text("ID", "NETWORK ID", networkRow.ID),
		format.Text("Name", "", networkRow.Name),
		format.Text("Driver", "", networkRow.Driver),
		format.Text("Scope", "", networkRow.Scope),
		format.Text("IPv4", "", networkRow.IPv4),
		format.Text("IPv6", "", networkRow.IPv6),
		format.Text("Internal", "", networkRow.Internal),
		format.Text("Labels", "", networkRow.Labels),
		format.Text("CreatedAt", "CREATED AT", networkRow.CreatedAt),
		format.Label(networkRow.Label),
	}}
}

// networkRow is a network as "network ls" and templates show it.
type networkRow struct {
	n    *network.Inspect
	full bool // nothing is shortened
}

func (r networkRow) ID() string {
	if r.full {
		return r.n.ID
	}
	return format.ShortID(r.n.ID)
}

func (r networkRow) Name() string             { return r.n.Name }
func (r networkRow) Driver() string           { return r.n.Driver }
func (r networkRow) Scope() string            { return r.n.Scope }
func (r networkRow) IPv4() string             { return strconv.FormatBool(r.n.EnableIPv4) }
func (r networkRow) IPv6() string             { return strconv.FormatBool(r.n.EnableIPv6) }
func (r networkRow) Internal() string         { return strconv.FormatBool(r.n.Internal) }
func (r networkRow) Labels() string           { return pairs(r.n.Labels) }
func (r networkRow) CreatedAt() string        { return r.n.Created.String() }
func (r networkRow) Label(name string) string { return r.n.Labels[name] }
