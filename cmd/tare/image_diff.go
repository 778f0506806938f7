package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

func newImageDiffCommand(c *cli) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "diff [OPTIONS] IMAGE IMAGE",
		Short: "Show in which files an image differs from another",
		Long: `Show in which files the second image differs from the first

A is what it has added, D what it has not any more, C what has another kind, owner, mode, data or
extended attributes. Times do not count.`,
		Args: rangeArgs(2, 2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, refs []string) error {
			return runImageDiff(ctx, cl, c.out, text, refs[0], refs[1])
		}),
	}
	cmd.Flags().StringVar(&text, "format", "", `"json" for the engine's documents, one a line`)
	return cmd
}

func runImageDiff(ctx context.Context, cl *client.Client, out io.Writer, text, from, to string) error {
	print := printChange
	switch text {
	case "":
	case "json":
		print = func(out io.Writer, m api.ImageDiffMessage) error {
			b, err := json.Marshal(m)
			if err == nil {
				_, err = fmt.Fprintf(out, "%s\n", format.EscapeJSON(b))
			}
			return err
		}
	default:
		return fmt.Errorf("invalid format %q: only json is possible", text)
	}
	w := bufio.NewWriter(out)
	whole := false
	err := cl.ImageDiff(ctx, from, to, func(m api.ImageDiffMessage) error {
		whole = whole || m.Total != nil
		return print(w, m)
	})
	if err == nil && !whole {
		err = errors.New("the engine's answer ends too early")
	}
	return errors.Join(err, w.Flush())
}

func printChange(w io.Writer, m api.ImageDiffMessage) (err error) {
	if t := m.Total; t != nil {
		_, err = fmt.Fprintf(w, "%d added (%s), %d changed (%s), %d deleted (%s)\n", t.Added, format.Size(t.AddedBytes),
			t.Changed, grown(t.ChangedBytes), t.Deleted, format.Size(t.DeletedBytes))
	}
	c := m.Change
	if err != nil || c == nil {
		return err
	}
	p := safe(c.Path)
	switch {
	case c.Old == nil && c.New == nil:
		return errors.New("the engine sends a change that is none")
	case c.Old == nil:
		_, err = fmt.Fprintf(w, "A %s%s\n", p, sizeOf(c.New))
	case c.New == nil:
		_, err = fmt.Fprintf(w, "D %s%s\n", p, sizeOf(c.Old))
	case c.Old.Kind != c.New.Kind:
		_, err = fmt.Fprintf(w, "C %s (%s, was %s)\n", p, safe(c.New.Kind), safe(c.Old.Kind))
	case c.Old.Size != c.New.Size:
		_, err = fmt.Fprintf(w, "C %s (%s, was %s)\n", p, format.Size(c.New.Size), format.Size(c.Old.Size))
	default:
		_, err = fmt.Fprintf(w, "C %s%s\n", p, sizeOf(c.New))
	}
	return err
}

func grown(n int64) string {
	if n < 0 {
		return "-" + format.Size(-n)
	}
	return "+" + format.Size(n)
}

// sizeOf is said of files only.
func sizeOf(x *api.ImageDiffEntry) string {
	if x.Kind != "file" {
		return ""
	}
	return " (" + format.Size(x.Size) + ")"
}
