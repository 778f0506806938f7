package oci

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
)

// netDevices moves the host's network devices of the spec into the
// container's namespace: with their addresses, up, and under the name that the
// spec gives them. If the namespace ends the kernel brings hardware back.
func (k *creation) netDevices(pid int) error {
	devices := k.b.spec.Linux.NetDevices
	if len(devices) == 0 {
		return nil
	}
	ns, err := k.netNS(pid)
	if err != nil {
		return err
	}
	defer ns.Close()
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		to := devices[name].Name
		if to == "" {
			to = name
		}
		if err := moveDevice(ns, name, to); err != nil {
			return fmt.Errorf("linux.netDevices: %s: %w", name, err)
		}
	}
	return nil
}

// netNS is the container's network namespace: its process's own, or the one
// that it is going to join.
func (k *creation) netNS(pid int) (*os.File, error) {
	for _, n := range k.b.spec.Linux.Namespaces {
		if n.Type != specs.NetworkNamespace {
			continue
		}
		if n.Path != "" {
			return os.Open(n.Path)
		}
		return netns.OfProcess(pid)
	}
	return nil, fmt.Errorf("linux.netDevices need a network namespace")
}

func moveDevice(ns *os.File, name, to string) error {
	addrs, err := sendDevice(ns, name, to)
	if err != nil {
		return err
	}
	return netns.Do(ns, func() error { return settleDevice(to, addrs) })
}

// sendDevice moves a device and returns the addresses that it had.
func sendDevice(ns *os.File, name, to string) ([]netip.Prefix, error) {
	c, err := netlink.Open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	link, ok, err := c.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("there is no such network device")
	}
	addrs, err := c.Addrs(link.Index)
	if err != nil {
		return nil, err
	}
	var b netlink.Batch
	b.SetDown(link.Index)
	b.MoveLink(link.Index, ns, to)
	return addrs, c.Do(&b)
}

func settleDevice(name string, addrs []netip.Prefix) error {
	c, err := netlink.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	link, ok, err := c.LinkByName(name)
	if err != nil || !ok {
		return fmt.Errorf("the device did not arrive: %w", err)
	}
	var b netlink.Batch
	for _, a := range addrs {
		if !a.Addr().IsLinkLocalUnicast() { // the kernel makes its own
			b.AddAddr(link.Index, netlink.Addr{Prefix: a})
		}
	}
	b.SetUp(link.Index)
	return c.Do(&b)
}
