package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

func newImageMountCommand(c *cli) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "mount [OPTIONS] [IMAGE [DIR]]",
		Short: "Mount the files of an image, or list the images that are mounted",
		Long: `The files are read-only, and set-user-ID programs and devices among them have no effect. Without
DIR the engine chooses a directory; its path is printed. The mount stays until "tare image umount"
or a reboot; an image is not removed as long.`,
		Args: rangeArgs(0, 2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			if len(args) == 0 {
				return runImageMounts(ctx, cl, c.out, text)
			}
			return runImageMount(ctx, cl, c.out, args)
		}),
	}
	cmd.Flags().StringVar(&text, "format", "", formatHelp)
	return cmd
}

func runImageMount(ctx context.Context, cl *client.Client, out io.Writer, args []string) error {
	if err := sameHost(cl); err != nil {
		return err
	}
	r := api.ImageMountRequest{Image: args[0]}
	if len(args) > 1 {
		target, err := filepath.Abs(args[1])
		if err != nil {
			return err
		}
		r.Target = target
	}
	m, err := cl.ImageMount(ctx, r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, safe(m.Path))
	return err
}

// sameHost refuses engines whose directories are not ours.
func sameHost(cl *client.Client) error {
	if !strings.HasPrefix(cl.Host(), "unix://") {
		return fmt.Errorf("the engine at %s mounts images on its own machine: run the command there", safe(cl.Host()))
	}
	return nil
}

func runImageMounts(ctx context.Context, cl *client.Client, out io.Writer, text string) error {
	list, err := cl.ImageMounts(ctx)
	if err != nil {
		return err
	}
	return format.Print(out, text, []format.Column[api.ImageMount]{
		{Title: "IMAGE ID", Value: mountID}, {Title: "NAME", Value: mountName}, {Title: "PATH", Value: mountPath},
	}, format.Fields[api.ImageMount]{Type: "mount", List: []format.Field[api.ImageMount]{
		format.Text("ID", "IMAGE ID", func(m api.ImageMount) string { return m.ID }),
		format.Text("Name", "NAME", mountName),
		format.Text("Path", "PATH", mountPath),
	}}, list)
}

func mountID(m api.ImageMount) string   { return format.ShortID(strings.TrimPrefix(m.ID, "sha256:")) }
func mountName(m api.ImageMount) string { return m.Name }
func mountPath(m api.ImageMount) string { return m.Path }

func newImageUmountCommand(c *cli) *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "umount [OPTIONS] IMAGE|DIR [IMAGE|DIR...]",
		Short: "Unmount images",
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			switch {
			case all && len(args) > 0:
				return errors.New("either --all or images can be given, not both")
			case !all && len(args) == 0:
				return errors.New("say which image is to be unmounted, or --all")
			case all:
				args = []string{""}
			}
			return runImageUmount(ctx, cl, c.out, args, force)
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Unmount all images")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Unmount although files are open, which stay open")
	return cmd
}

func runImageUmount(ctx context.Context, cl *client.Client, out io.Writer, names []string, force bool) error {
	var errs []error
	for _, n := range names {
		gone, err := cl.ImageUnmount(ctx, placeOrName(n), force)
		errs = append(errs, err)
		for _, m := range gone {
			fmt.Fprintln(out, safe(m.Path))
		}
	}
	return errors.Join(errs...)
}

// placeOrName makes a path absolute; the name of an image begins with neither a
// dot nor a slash.
func placeOrName(s string) string {
	if strings.HasPrefix(s, ".") {
		if abs, err := filepath.Abs(s); err == nil {
			return abs
		}
	}
	return s
}
