package main

import (
	"context"
	"io"
	"net"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newDialStdioCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:    "dial-stdio",
		Hidden: true,
		Short:  "Join STDIN and STDOUT with the engine's socket",
		Long:   "This is what -H ssh://HOST runs on the other host.",
		Args:   noArgs,
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			conn, err := cl.Dial(ctx)
			if err != nil {
				return err
			}
			return joinStreams(conn, c.in, c.out)
		}),
	}
}

// joinStreams copies both ways until the connection has nothing more to say.
func joinStreams(conn net.Conn, in io.Reader, out io.Writer) error {
	defer conn.Close()
	go func() {
		// Left behind when the engine ends first: a read of stdin cannot be
		// called back, and the program ends anyway.
		io.Copy(conn, in)
		if w, ok := conn.(interface{ CloseWrite() error }); ok {
			w.CloseWrite()
		}
	}()
	_, err := io.Copy(out, conn)
	return err
}
