package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

type networkCreateOptions struct {
	request                   network.CreateRequest
	from                      string // --config-from
	ipv4, ipv6                bool
	driverOptions, labels     []string
	ipamDriver                string
	ipamOptions, aux          []string
	subnets, ranges, gateways []string
}

func newNetworkCreateCommand(c *cli) *cobra.Command {
	var o networkCreateOptions
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] NETWORK",
		Short: "Make a network",
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			o.request.Name = args[0]
			made, err := cl.NetworkCreate(ctx, o.request)
			if err != nil {
				return err
			}
			if made.Warning != "" {
				fmt.Fprintln(c.err, "WARNING: "+safe(made.Warning))
			}
			_, err = fmt.Fprintln(c.out, safe(made.ID))
			return err
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.request.Attachable, "attachable", false, "Let single containers be connected, if it is a swarm's")
	f.StringArrayVar(&o.aux, "aux-address", nil, "Address that is not to be given to containers, as name=address")
	f.StringVar(&o.from, "config-from", "", "Network whose configuration is taken")
	f.BoolVar(&o.request.ConfigOnly, "config-only", false, "Make a configuration for other networks only")
	f.StringVarP(&o.request.Driver, "driver", "d", "bridge", "Driver of the network")
	f.StringSliceVar(&o.gateways, "gateway", nil, "Address of the gateway in the subnet")
	f.BoolVar(&o.request.Ingress, "ingress", false, "Make a swarm's network for published ports")
	f.BoolVar(&o.request.Internal, "internal", false, "Cut the network off from the world")
	f.StringSliceVar(&o.ranges, "ip-range", nil, "Part of the subnet from which containers get addresses")
	f.StringVar(&o.ipamDriver, "ipam-driver", "default", "Driver that gives out addresses")
	f.StringArrayVar(&o.ipamOptions, "ipam-opt", nil, "Option of that driver, as name=value")
	f.BoolVar(&o.ipv4, "ipv4", true, "Give containers IPv4 addresses")
	f.BoolVar(&o.ipv6, "ipv6", false, "Give containers IPv6 addresses")
	f.StringArrayVar(&o.labels, "label", nil, "Set a label, as key=value")
	f.StringArrayVarP(&o.driverOptions, "opt", "o", nil, "Option of the driver, as name=value")
	f.StringVar(&o.request.Scope, "scope", "", "How far the network reaches (local)")
	f.StringSliceVar(&o.subnets, "subnet", nil, "Subnet, such as 10.1.0.0/16")
	opts.CallValues(f, "map", "aux-address", "ipam-opt", "opt")
	opts.CallValues(f, "list", "label")
	opts.CallValues(f, "ipSlice", "gateway")
	opts.CallValues(f, "ipNetSlice", "ip-range")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("ipv4") {
			o.request.EnableIPv4 = &o.ipv4
		}
		if cmd.Flags().Changed("ipv6") {
			o.request.EnableIPv6 = &o.ipv6
		}
		return o.read()
	}
	return cmd
}

// read makes the request of what the flags say.
func (o *networkCreateOptions) read() (err error) {
	r := &o.request
	r.Options, r.Labels = map[string]string{}, map[string]string{}
	r.IPAM = &network.IPAM{Driver: o.ipamDriver, Options: map[string]string{}}
	for _, list := range []struct {
		flag   string
		values []string
		to     map[string]string
	}{{"opt", o.driverOptions, r.Options}, {"ipam-opt", o.ipamOptions, r.IPAM.Options}} {
		for _, v := range list.values {
			name, value, ok := strings.Cut(v, "=")
			if !ok {
				return fmt.Errorf("invalid argument %q for \"--%s\": must be formatted as key=value", v, list.flag)
			}
			list.to[name] = value
		}
	}
	for _, l := range o.labels {
		if l, err = opts.CheckLabel(l); err != nil {
			return err
		}
		name, value, _ := strings.Cut(l, "=")
		r.Labels[name] = value
	}
	if o.from != "" {
		r.ConfigFrom = &network.ConfigReference{Network: o.from}
	}
	r.IPAM.Config, err = o.ipam()
	return err
}

// ipam sorts ranges, gateways and other addresses by the subnets that they are
// of, each of which has one of a kind.
func (o *networkCreateOptions) ipam() ([]network.IPAMConfig, error) {
	if len(o.subnets) < len(o.ranges) || len(o.subnets) < len(o.gateways) {
		return nil, errors.New("every ip-range or gateway must have a corresponding subnet")
	}
	list := []network.IPAMConfig{}
	for _, text := range o.subnets {
		subnet, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("invalid subnet %s: %w", text, err)
		}
		for _, other := range list {
			if other.Subnet.Overlaps(subnet) {
				return nil, errors.New("multiple overlapping subnet configuration is not supported")
			}
		}
		list = append(list, network.IPAMConfig{Subnet: subnet})
	}
	find := func(a netip.Addr) *network.IPAMConfig {
		for i := range list {
			if list[i].Subnet.Contains(a) {
				return &list[i]
			}
		}
		return nil
	}
	for _, text := range o.ranges {
		part, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("invalid range %s: %w", text, err)
		}
		c := find(part.Addr())
		if c == nil {
			return nil, fmt.Errorf("no matching subnet for range %s", text)
		}
		if c.IPRange.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)", text, c.IPRange, c.Subnet)
		}
		c.IPRange = part
	}
	for _, text := range o.gateways {
		gateway, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("invalid gateway %s: %w", text, err)
		}
		c := find(gateway)
		if c == nil {
			return nil, fmt.Errorf("no matching subnet for gateway %s", text)
		}
		if c.Gateway.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple gateways (%s, %s) for the same subnet (%s)", text, c.Gateway, c.Subnet)
		}
		c.Gateway = gateway
	}
	for _, text := range o.aux {
		name, value, _ := strings.Cut(text, "=")
		a, err := netip.ParseAddr(value)
		if err != nil {
			return nil, fmt.Errorf("invalid aux-address %s: %w", text, err)
		}
		c := find(a)
		if c == nil {
			return nil, fmt.Errorf("no matching subnet for aux-address %s", value)
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[name] = a
	}
	return list, nil
}
