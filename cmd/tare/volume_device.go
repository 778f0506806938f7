package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/client"
)

func newVolumeReplaceCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "replace VOLUME DEVICE [NEW]",
		Short: "Give a volume of the driver dm a device in the place of another",
		Long: `For the targets mirror and raid1, also while containers use the volume: the new device gets what the others
have ("tare volume status" shows how far that is). For multipath it is another way to the same disk, or, if it
is the one before, that is tried again. Without NEW it is the same device, which has been away, or another file.`,
		Args: rangeArgs(2, 3),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			with := ""
			if len(args) == 3 {
				with = args[2]
			}
			return cl.VolumeReplace(ctx, args[0], args[1], with)
		}),
	}
}

func newVolumeResizeCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "resize VOLUME SIZE",
		Short: "Have a volume of the driver dm grow, also while containers use it",
		Args:  exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			size, err := units.RAMInBytes(args[1])
			if err != nil {
				return fmt.Errorf("invalid size %q, such as 10g", args[1])
			}
			return cl.VolumeResize(ctx, args[0], size)
		}),
	}
}

func newVolumeStatusCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "status VOLUME",
		Short: "Show what a volume's driver says of it, such as the health of its devices",
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			v, err := cl.VolumeInspect(ctx, args[0])
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
			showStatus(w, "", v.Status)
			return w.Flush()
		}),
	}
}

// showStatus prints values by name, those that have names themselves below.
func showStatus(w io.Writer, indent string, status map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(status)) {
		switch value := status[name].(type) {
		case map[string]any:
			fmt.Fprintf(w, "%s%s:\n", indent, safe(name))
			showStatus(w, indent+"  ", value)
		case float64:
			fmt.Fprintf(w, "%s%s:\t%s\n", indent, safe(name), strconv.FormatFloat(value, 'f', -1, 64))
		default:
			fmt.Fprintf(w, "%s%s:\t%s\n", indent, safe(name), safe(fmt.Sprint(value)))
		}
	}
}

func newVolumeUnlockCommand(c *cli) *cobra.Command {
	fd := 0
	cmd := &cobra.Command{
		Use:   "unlock [OPTIONS] VOLUME",
		Short: "Bring the key of an encrypted volume, from STDIN or a descriptor",
		Long: `For volumes of the driver dm with target=crypt and no key file. A key is 64 bytes, or 32, as of

	head -c 64 /dev/urandom > key

The kernel keeps it until "tare volume lock" or the machine's end; the engine does not. The first key makes
the volume's file system.`,
		Example: "tare volume unlock secret < key",
		Args:    exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			in := c.in
			if fd != 0 {
				in = os.NewFile(uintptr(fd), "descriptor "+strconv.Itoa(fd))
				if in == nil {
					return fmt.Errorf("%d is no descriptor", fd)
				}
				defer in.Close()
			}
			key, err := readKey(in)
			defer clear(key)
			if err != nil {
				return err
			}
			return cl.VolumeUnlock(ctx, args[0], key)
		}),
	}
	cmd.Flags().IntVar(&fd, "key-fd", 0, "Read the key from this `descriptor`")
	return cmd
}

// maxKey is more than any key has.
const maxKey = 1024

// readKey reads a key, which the caller clears, also after an error.
func readKey(in *os.File) ([]byte, error) {
	buf := make([]byte, maxKey)
	n, err := io.ReadFull(in, buf)
	switch {
	case err == nil:
		return buf, fmt.Errorf("%s has %d bytes or more: that is no key", in.Name(), maxKey)
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s has no key", in.Name())
	case !errors.Is(err, io.ErrUnexpectedEOF):
		return buf, err
	}
	return buf[:n], nil
}

func newVolumeLockCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "lock VOLUME",
		Short: "Take the key of an encrypted volume away that no running container has",
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return cl.VolumeLock(ctx, args[0])
		}),
	}
}
