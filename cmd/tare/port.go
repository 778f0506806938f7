package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newPortCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:         "port CONTAINER [PRIVATE_PORT[/PROTO]]",
		Short:       "Show where the ports of a container are published",
		Args:        rangeArgs(1, 2),
		Annotations: aliases("container port", "port"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runPort(ctx, cl, c.out, args[0], strings.Join(args[1:], ""))
		}),
	}
}

func runPort(ctx context.Context, cl *client.Client, out io.Writer, name, wanted string) error {
	ct, err := cl.ContainerInspect(ctx, name)
	if err != nil {
		return err
	}
	var ports network.PortMap
	if ct.NetworkSettings != nil {
		ports = ct.NetworkSettings.Ports
	}
	if wanted != "" {
		port, err := network.ParsePort(wanted)
		if err != nil {
			return fmt.Errorf("Error: invalid port (%s): %w", wanted, err)
		}
		if len(ports[port]) == 0 {
			return fmt.Errorf("Error: No public port '%s' published for %s", wanted, name)
		}
		ports = network.PortMap{port: ports[port]}
	}
	var lines []string
	for port, bindings := range ports {
		for _, b := range bindings {
			line := hostPort(b.HostIP, b.HostPort)
			if wanted == "" {
				line = port.String() + " -> " + line
			}
			lines = append(lines, line)
		}
	}
	slices.SortFunc(lines, compareNatural)
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return nil
}

// compareNatural orders texts so that the numbers in them count as numbers:
// 80/tcp comes before 443/tcp.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na == 0 || nb == 0 {
			if a[0] != b[0] {
				return int(a[0]) - int(b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) - len(b)
}

// digits is the length of the number that s begins with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
