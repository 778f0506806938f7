package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

func newImageTreeCommand(c *cli) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "tree [OPTIONS]",
		Short: "Show which layers images share",
		Long: `Each line is a layer on top of the one that it is drawn below, with the size of its data and the
images of which it is the last. Layers that no other image shares are drawn as one.`,
		Args: noArgs,
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			return runImageTree(ctx, cl, c.out, text)
		}),
	}
	cmd.Flags().StringVar(&text, "format", "", `"json" for the engine's document`)
	return cmd
}

func runImageTree(ctx context.Context, cl *client.Client, out io.Writer, text string) error {
	if text != "" && text != "json" {
		return fmt.Errorf("invalid format %q: only json is possible", text)
	}
	list, err := cl.ImageLayers(ctx)
	if err != nil {
		return err
	}
	if text == "json" {
		b, err := json.Marshal(list)
		if err == nil {
			_, err = fmt.Fprintf(out, "%s\n", format.EscapeJSON(b))
		}
		return err
	}
	return format.Collected(out, func(w io.Writer) error {
		for _, l := range treeOf(list) {
			if err := l.print(w, "", ""); err != nil {
				return err
			}
		}
		return nil
	})
}

// treeLayer is a layer, or several in a row where no image ends and none
// branches off.
type treeLayer struct {
	id     string // of the topmost
	count  int
	size   int64
	images []string
	above  []*treeLayer
}

// treeOf makes the trees of all images, sorted by what is written on them.
func treeOf(list []api.ImageLayers) []*treeLayer {
	root := &treeLayer{}
	byID := map[string]*treeLayer{}
	for _, i := range list {
		at := root
		for _, l := range i.Layers {
			next := byID[l.ChainID]
			if next == nil {
				next = &treeLayer{id: l.ChainID, count: 1, size: l.Size}
				byID[l.ChainID] = next
				at.above = append(at.above, next)
			}
			at = next
		}
		names := i.Names
		if len(names) == 0 {
			names = []string{none}
		}
		for _, n := range names {
			at.images = append(at.images, n+" ("+format.ShortID(i.ID)+")")
		}
	}
	root.fold()
	if len(root.images) > 0 { // of no layers at all
		root.above = append(root.above, &treeLayer{images: root.images})
	}
	return root.above
}

// fold joins layers that nothing tells apart, and sorts.
func (l *treeLayer) fold() {
	for _, a := range l.above {
		for len(a.above) == 1 && len(a.images) == 0 {
			next := a.above[0]
			a.id, a.count, a.size, a.images, a.above = next.id, a.count+next.count, a.size+next.size, next.images, next.above
		}
		a.fold()
	}
	slices.Sort(l.images)
	slices.SortFunc(l.above, func(a, b *treeLayer) int { return strings.Compare(a.first(), b.first()) })
}

// first is the first image that is above.
func (l *treeLayer) first() string {
	first := ""
	if len(l.images) > 0 {
		first = l.images[0]
	}
	for _, a := range l.above {
		if f := a.first(); first == "" || f < first {
			first = f
		}
	}
	return first
}

func (l *treeLayer) print(w io.Writer, here, below string) error {
	line := "no layers"
	switch {
	case l.count == 1:
		line = format.ShortID(l.id) + " " + format.Size(l.size)
	case l.count > 1:
		line = fmt.Sprintf("%s %s in %d layers", format.ShortID(l.id), format.Size(l.size), l.count)
	}
	if len(l.images) > 0 {
		line += "  " + strings.Join(l.images, ", ")
	}
	if _, err := fmt.Fprintln(w, here+safe(line)); err != nil {
		return err
	}
	for i, a := range l.above {
		h, b := "├─ ", "│  "
		if i == len(l.above)-1 {
			h, b = "└─ ", "   "
		}
		if err := a.print(w, below+h, below+b); err != nil {
			return err
		}
	}
	return nil
}
