package main

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/client"
)

func newVolumeCpCommand(c *cli) *cobra.Command {
	var o cpOptions
	cmd := &cobra.Command{
		Use: "cp [OPTIONS] VOLUME:SRC_PATH DEST_PATH|-\n\t" + program +
			" volume cp [OPTIONS] SRC_PATH|- VOLUME:DEST_PATH\n\t" + program + " volume cp [OPTIONS] VOLUME:SRC_PATH VOLUME:DEST_PATH",
		Short: "Copy files and directories into a volume, out of it, or between two",
		Long: `Containers may have the volume meanwhile. Paths begin at the volume's own directory: links in it that lead out of it end there. Owners stay as they are.

SRC_PATH - reads an archive (tar) from STDIN and unpacks it into the directory DEST_PATH of
the volume; DEST_PATH - writes SRC_PATH to STDOUT as an archive.`,
		Args: exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			o.from, o.to = parseCpPath(args[0]), parseCpPath(args[1])
			return c.runCp(ctx, volumeFiles{cl}, o)
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow-link", "L", false, "Copy what a link SRC_PATH leads to")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show no progress; without a terminal there is none anyway")
	return cmd
}

// volumeFiles are the files of volumes.
type volumeFiles struct{ cl *client.Client }

func (volumeFiles) kind() string { return "volume" }

func (f volumeFiles) stat(ctx context.Context, name, path string) (container.PathStat, error) {
	return f.cl.VolumePath(ctx, name, path)
}

func (f volumeFiles) open(ctx context.Context, name, path string) (io.ReadCloser, container.PathStat, error) {
	return f.cl.VolumeFiles(ctx, name, path)
}

func (f volumeFiles) extract(ctx context.Context, name, dir string, archive io.Reader) error {
	return f.cl.VolumeExtract(ctx, name, dir, archive)
}
