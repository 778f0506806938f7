package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

// connectOptions are the flags of network connect.
type connectOptions struct {
	network.EndpointSettings
	ip, ip6            string
	linkLocal, options []string
}

func newNetworkConnectCommand(c *cli) *cobra.Command {
	var o connectOptions
	cmd := &cobra.Command{
		Use:               "connect [OPTIONS] NETWORK CONTAINER",
		Short:             "Put a container into a network",
		ValidArgsFunction: c.networkThenContainer,
		Args:              exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			settings, err := o.settings()
			if err != nil {
				return err
			}
			return cl.NetworkConnect(ctx, args[0], network.ConnectRequest{Container: args[1], EndpointConfig: settings})
		}),
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Aliases, "alias", nil, "One more name of the container in the network")
	f.StringSliceVar(&o.options, "driver-opt", nil, "Option of the network's driver, as name=value")
	f.IntVar(&o.GwPriority, "gw-priority", 0, "The network with the highest priority is the way out")
	f.StringVar(&o.ip, "ip", "", "IPv4 address")
	f.StringVar(&o.ip6, "ip6", "", "IPv6 address")
	f.StringArrayVar(&o.Links, "link", nil, "Another container, as NAME:ALIAS")
	f.StringSliceVar(&o.linkLocal, "link-local-ip", nil, "Link-local address")
	opts.CallValues(f, "ip", "ip", "ip6")
	opts.CallValues(f, "list", "link")
	opts.CallValues(f, "ipSlice", "link-local-ip")
	return cmd
}

// settings are what the flags ask for.
func (o *connectOptions) settings() (_ *network.EndpointSettings, err error) {
	s, config := o.EndpointSettings, network.EndpointIPAMConfig{}
	if config.IPv4Address, err = parseIP(o.ip); err != nil {
		return nil, err
	}
	if config.IPv6Address, err = parseIP(o.ip6); err != nil {
		return nil, err
	}
	for _, text := range o.linkLocal {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("invalid IP address: %s", text)
		}
		config.LinkLocalIPs = append(config.LinkLocalIPs, a)
	}
	for _, option := range o.options {
		name, value, ok := strings.Cut(option, "=")
		if !ok {
			return nil, fmt.Errorf("invalid key/value pair format in driver options")
		}
		if s.DriverOpts == nil {
			s.DriverOpts = map[string]string{}
		}
		s.DriverOpts[name] = value
	}
	s.IPAMConfig = &config
	return &s, nil
}

// parseIP reads an address; of "" it makes none.
func parseIP(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fmt.Errorf("invalid IP address: %s", text)
	}
	return a, nil
}

func newNetworkDisconnectCommand(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "disconnect [OPTIONS] NETWORK CONTAINER",
		Short:             "Take a container out of a network",
		ValidArgsFunction: c.networkThenContainer,
		Args:              exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return cl.NetworkDisconnect(ctx, args[0], network.DisconnectRequest{Container: args[1], Force: force})
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Taken as docker does; nothing here needs it")
	return cmd
}
