package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type historyOptions struct {
	format                string
	human, noTrunc, quiet bool
	platform              string
}

func newHistoryCommand(c *cli) *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:         "history [OPTIONS] IMAGE",
		Short:       "Show how an image came to be",
		Args:        exactArgs(1),
		Annotations: aliases("image history", "history"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runHistory(ctx, cl, c.out, o, args[0])
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVarP(&o.human, "human", "H", true, "Show sizes and dates as people read them")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show values at full length")
	f.StringVar(&o.platform, "platform", "", "Platform of the image, such as linux/amd64")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show image IDs only")
	return cmd
}

func runHistory(ctx context.Context, cl *client.Client, out io.Writer, o historyOptions, ref string) error {
	platform, err := parsePlatform(o.platform)
	if err != nil {
		return err
	}
	list, err := cl.ImageHistory(ctx, ref, platform)
	if err != nil {
		return err
	}
	rows := make([]historyRow, len(list))
	for i := range list {
		rows[i] = historyRow{h: &list[i], o: o}
	}
	if o.quiet && o.format == "" {
		return format.Lines(out, historyRow.ID, rows)
	}
	created := "CREATED"
	if !o.human {
		created = "CREATED AT"
	}
	return format.Print(out, o.format, []format.Column[historyRow]{
		{Title: "IMAGE", Value: historyRow.ID},
		{Title: created, Value: historyRow.CreatedSince},
		{Title: "CREATED BY", Value: historyRow.CreatedBy},
		{Title: "SIZE", Value: historyRow.Size},
		{Title: "COMMENT", Value: historyRow.Comment},
	}, historyFields(created), rows)
}

// historyFields are what templates see of a step.
func historyFields(created string) format.Fields[historyRow] {
	return format.Fields[historyRow]{Type: "*image.historyContext", List: []format.Field[historyRow]{
		format.Text("ID", "IMAGE", historyRow.ID),
		format.Text("CreatedSince", created, historyRow.CreatedSince),
		format.Text("CreatedAt", "CREATED AT", historyRow.CreatedAt),
		format.Text("CreatedBy", "CREATED BY", historyRow.CreatedBy),
		format.Text("Size", "", historyRow.Size),
		format.Text("Comment", "", historyRow.Comment),
	}}
}

// historyRow is a step of an image's making.
type historyRow struct {
	h *image.HistoryResponseItem
	o historyOptions
}

func (r historyRow) ID() string {
	if r.o.noTrunc {
		return r.h.ID
	}
	return format.ShortID(r.h.ID)
}

func (r historyRow) CreatedAt() string {
	return time.Unix(r.h.Created, 0).Format(time.RFC3339)
}

func (r historyRow) CreatedSince() string {
	switch {
	case !r.o.human:
		return r.CreatedAt()
	case r.h.Created <= 0:
		return "N/A"
	}
	return format.Ago(time.Unix(r.h.Created, 0), time.Now())
}

func (r historyRow) CreatedBy() string {
	text := strings.ReplaceAll(r.h.CreatedBy, "\t", " ")
	if r.o.noTrunc {
		return text
	}
	return format.Ellipsis(text, 45)
}

func (r historyRow) Size() string {
	if !r.o.human {
		return strconv.FormatInt(r.h.Size, 10)
	}
	return format.Size(r.h.Size)
}

func (r historyRow) Comment() string { return r.h.Comment }
