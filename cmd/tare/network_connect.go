package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newNetworkConnectCommand(c *cli) *cobra.Command {
	settings := network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{}}
	var ip, ip6 string
	var linkLocal, options []string
	cmd := &cobra.Command{
		Use:   "connect [OPTIONS] NETWORK CONTAINER",
		Short: "Put a container into a network",
		Args:  exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return cl.NetworkConnect(ctx, args[0], network.ConnectRequest{Container: args[1], EndpointConfig: &settings})
		}),
	}
	f := cmd.Flags()
	f.StringSliceVar(&settings.Aliases, "alias", nil, "One more name of the container in the network")
	f.StringSliceVar(&options, "driver-opt", nil, "Option of the network's driver, as name=value")
	f.IntVar(&settings.GwPriority, "gw-priority", 0, "The network with the highest priority is the way out")
	f.StringVar(&ip, "ip", "", "IPv4 address")
	f.StringVar(&ip6, "ip6", "", "IPv6 address")
	f.StringSliceVar(&settings.Links, "link", nil, "Another container, as NAME:ALIAS")
	f.StringSliceVar(&linkLocal, "link-local-ip", nil, "Link-local address")
	cmd.PreRunE = func(*cobra.Command, []string) (err error) {
		for _, a := range []struct {
			text string
			to   *netip.Addr
		}{{ip, &settings.IPAMConfig.IPv4Address}, {ip6, &settings.IPAMConfig.IPv6Address}} {
			if a.text == "" {
				continue
			}
			if *a.to, err = netip.ParseAddr(a.text); err != nil {
				return fmt.Errorf("invalid IP address: %s", a.text)
			}
		}
		for _, text := range linkLocal {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return fmt.Errorf("invalid IP address: %s", text)
			}
			settings.IPAMConfig.LinkLocalIPs = append(settings.IPAMConfig.LinkLocalIPs, a)
		}
		for _, o := range options {
			name, value, ok := strings.Cut(o, "=")
			if !ok {
				return fmt.Errorf("invalid key/value pair format in driver options")
			}
			if settings.DriverOpts == nil {
				settings.DriverOpts = map[string]string{}
			}
			settings.DriverOpts[name] = value
		}
		return nil
	}
	return cmd
}

func newNetworkDisconnectCommand(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "disconnect [OPTIONS] NETWORK CONTAINER",
		Short: "Take a container out of a network",
		Args:  exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return cl.NetworkDisconnect(ctx, args[0], network.DisconnectRequest{Container: args[1], Force: force})
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Taken as docker does; nothing here needs it")
	return cmd
}
