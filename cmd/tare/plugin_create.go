package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moby/moby/api/types/plugin"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/archive"
)

func newPluginCreateCommand(c *cli) *cobra.Command {
	var compress bool
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] PLUGIN PLUGIN-DATA-DIR",
		Short: "Make a plugin of a directory with config.json and rootfs",
		Args:  minArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			if err := checkPluginDir(args[1]); err != nil {
				return err
			}
			dir, err := archive.Find(args[1], true)
			if err != nil {
				return err
			}
			if err := sendPlugin(ctx, cl, args[0], dir, compress); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, safe(args[0]))
			return err
		}),
	}
	cmd.Flags().BoolVar(&compress, "compress", false, "Send the directory compressed by gzip")
	return cmd
}

// checkPluginDir refuses what cannot be a plugin.
func checkPluginDir(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s: context must be a directory", dir)
	}
	path := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &plugin.Config{}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// sendPlugin sends a directory while it is packed.
func sendPlugin(ctx context.Context, cl *client.Client, name string, dir archive.Local, compress bool) error {
	r, w := io.Pipe()
	packed := make(chan struct{})
	go func() {
		defer close(packed)
		w.CloseWithError(packPlugin(w, dir, compress))
	}()
	err := cl.PluginCreate(ctx, name, r)
	r.CloseWithError(errors.New("the engine takes no more"))
	<-packed
	return err
}

func packPlugin(out io.Writer, dir archive.Local, compress bool) error {
	if !compress {
		return dir.Pack(out, ".")
	}
	z := gzip.NewWriter(out)
	return errors.Join(dir.Pack(z, "."), z.Close())
}
