package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

const layerHelp = `A directory is what begins with a slash or a dot; it is one of the engine's host. The engine's
storage driver must be union (tared --storage-driver union). What was added stays until the container ends.`

func newLayerAddCommand(c *cli) *cobra.Command {
	change := api.BranchChange{}
	cmd := &cobra.Command{
		Use:   "add [OPTIONS] CONTAINER IMAGE|DIR[=PERM]",
		Short: "Add the layers of an image, or a directory, to a running container",
		Long: `PERM is ro (without one), rr (nobody changes it), rw, ro+wh or rr+wh (its whiteouts count), rw+nolwh.
Files that are open stay what they are.

` + layerHelp,
		Args: exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			change.Container = args[0]
			if err := layerArgument(cl, args[1], &change); err != nil {
				return err
			}
			return cl.AddContainerLayer(ctx, change)
		}),
	}
	cmd.Flags().IntVar(&change.Index, "index", -1, "Place, 0 being on top; -1 is below all others")
	createFlag(cmd, &change)
	return cmd
}

func createFlag(cmd *cobra.Command, change *api.BranchChange) {
	cmd.Flags().StringVar(&change.Create, "create", "", "Which writable branch gets new files from now on: tdp, rr, mfs, pmfs and so on, as of tare union mount")
}

func newLayerModCommand(c *cli) *cobra.Command {
	change := api.BranchChange{}
	cmd := &cobra.Command{
		Use:   "mod [OPTIONS] CONTAINER [DIR=PERM]",
		Short: "Change what a container may do with a directory that was added, or where new files go",
		Long:  layerHelp,
		Args:  rangeArgs(1, 2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			change.Container = args[0]
			if len(args) > 1 {
				if err := layerArgument(cl, args[1], &change); err != nil {
					return err
				}
			}
			return cl.ModifyContainerLayer(ctx, change)
		}),
	}
	createFlag(cmd, &change)
	return cmd
}

func newLayerDelCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "del CONTAINER IMAGE|DIR",
		Short: "Take away what was added to a running container",
		Long: `It is refused while a file or a working directory is there only.

` + layerHelp,
		Args: exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			var what api.BranchChange
			if err := layerArgument(cl, args[1], &what); err != nil {
				return err
			}
			if what.Perm != "" {
				return fmt.Errorf("del takes a directory alone, not %s", safe(args[1]))
			}
			return cl.RemoveContainerLayer(ctx, args[0], what.Image, what.Dir)
		}),
	}
}

// layerArgument reads IMAGE or DIR[=PERM].
func layerArgument(cl *client.Client, arg string, to *api.BranchChange) error {
	if arg == "" {
		return errors.New("the name of an image or a directory is empty")
	}
	if arg[0] != '/' && arg[0] != '.' {
		to.Image = arg
		return nil
	}
	if !strings.HasPrefix(cl.Host(), "unix://") && arg[0] == '.' {
		return fmt.Errorf("%s is on this machine, and the engine at %s on another: say the directory with a slash in front", safe(arg), safe(cl.Host()))
	}
	to.Dir = arg
	if i := strings.LastIndexByte(arg, '='); i >= 0 {
		to.Dir, to.Perm = arg[:i], arg[i+1:]
	}
	var err error
	to.Dir, err = filepath.Abs(to.Dir)
	return err
}

func newLayerLsCommand(c *cli) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "ls [OPTIONS] CONTAINER",
		Short: "Show what a running container's root consists of, topmost first",
		Long:  layerHelp,
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			list, err := cl.ContainerLayers(ctx, args[0])
			if err != nil {
				return err
			}
			return printLayers(c.out, text, list)
		}),
	}
	cmd.Flags().StringVar(&text, "format", "", formatHelp)
	return cmd
}

// placedBranch is a branch with its index.
type placedBranch struct {
	Index int
	api.ContainerBranch
}

func printLayers(out io.Writer, text string, list []api.ContainerBranch) error {
	placed := make([]placedBranch, len(list))
	for i, b := range list {
		placed[i] = placedBranch{i, b}
	}
	index := func(b placedBranch) string { return strconv.Itoa(b.Index) }
	perm := func(b placedBranch) string { return b.Perm }
	part := func(b placedBranch) string { return strings.TrimSpace(b.Part + " " + b.Image) }
	dir := func(b placedBranch) string { return b.Dir }
	return format.Print(out, text, []format.Column[placedBranch]{
		{Title: "INDEX", Value: index}, {Title: "PERM", Value: perm}, {Title: "PART", Value: part}, {Title: "DIR", Value: dir},
	}, format.Fields[placedBranch]{Type: "layer", List: []format.Field[placedBranch]{
		format.Text("Index", "INDEX", index),
		format.Text("Perm", "PERM", perm),
		format.Text("Part", "PART", part),
		format.Text("Dir", "DIR", dir),
	}}, placed)
}
