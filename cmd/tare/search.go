package main

import (
	"context"
	"io"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type searchOptions struct {
	noTrunc bool
	format  string
	limit   int
	filters api.Filters
}

func newSearchCommand(c *cli) *cobra.Command {
	o := searchOptions{filters: api.Filters{}}
	cmd := &cobra.Command{
		Use:   "search [OPTIONS] TERM",
		Short: "Search Docker Hub, or the registry that TERM begins with",
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			auth := c.credentials(args[0])
			return runSearch(ctx, cl, c.out, o, api.SearchOptions{Term: args[0], Limit: o.limit, Filters: o.filters, Auth: auth})
		}),
	}
	f := cmd.Flags()
	f.VarP(filterFlag{o.filters}, "filter", "f", "Show only what meets a condition, such as stars=3")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.IntVar(&o.limit, "limit", 0, "Show at most so many images; 0 leaves it to the registry")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show values at full length")
	return cmd
}

func runSearch(ctx context.Context, cl *client.Client, out io.Writer, o searchOptions, what api.SearchOptions) error {
	found, err := cl.ImageSearch(ctx, what)
	if err != nil {
		return err
	}
	rows := make([]searchRow, 0, len(found))
	for _, r := range found {
		rows = append(rows, searchRow{r, o.noTrunc, o.format == "json"})
	}
	return format.Print(out, o.format, []format.Column[searchRow]{
		{Title: "NAME", Value: searchRow.Name},
		{Title: "DESCRIPTION", Value: searchRow.Description},
		{Title: "STARS", Value: searchRow.StarCount},
		{Title: "OFFICIAL", Value: searchRow.IsOfficial},
	}, format.Fields[searchRow]{Type: "*registry.searchContext", List: []format.Field[searchRow]{
		format.Text("Name", "", searchRow.Name),
		format.Text("Description", "", searchRow.Description),
		format.Text("StarCount", "STARS", searchRow.StarCount),
		format.Text("IsOfficial", "OFFICIAL", searchRow.IsOfficial),
	}}, rows)
}

// searchRow is an image that was found, as templates see it.
type searchRow struct {
	r    registry.SearchResult
	full bool
	json bool
}

// descriptionWidth is how much is shown of a description.
const descriptionWidth = 45

func (r searchRow) Name() string      { return r.r.Name }
func (r searchRow) StarCount() string { return strconv.Itoa(r.r.StarCount) }

func (r searchRow) Description() string {
	text := strings.NewReplacer("\n", " ", "\r", " ").Replace(r.r.Description)
	if r.full {
		return text
	}
	return format.Ellipsis(text, descriptionWidth)
}

func (r searchRow) IsOfficial() string {
	switch {
	case r.json:
		return strconv.FormatBool(r.r.IsOfficial)
	case r.r.IsOfficial:
		return "[OK]"
	}
	return ""
}
