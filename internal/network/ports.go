package network

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
)

// WantedPorts reads what a client asks to publish: bindings by container port,
// and with all also the exposed ports that have none. Ports that name a host
// port come first, so that no chosen one takes it.
func WantedPorts(bindings network.PortMap, exposed network.PortSet, all bool) ([]Port, error) {
	var wanted []Port
	for port, list := range bindings {
		if len(list) == 0 {
			list = []network.PortBinding{{}}
		}
		for _, b := range list {
			p, err := wantedPort(port, b)
			if err != nil {
				return nil, err
			}
			wanted = append(wanted, p)
		}
	}
	if all {
		for port := range exposed {
			if len(bindings[port]) == 0 {
				wanted = append(wanted, Port{Proto: string(port.Proto()), Container: port.Num()})
			}
		}
	}
	slices.SortFunc(wanted, comparePorts)
	return slices.CompactFunc(wanted, func(a, b Port) bool { return a == b && a.Host != 0 }), nil
}

func comparePorts(a, b Port) int {
	if (a.Host == 0) != (b.Host == 0) {
		return cmp.Compare(b.Host, a.Host)
	}
	if (a.HostEnd == 0) != (b.HostEnd == 0) { // a range has others to choose from
		return cmp.Compare(a.HostEnd, b.HostEnd)
	}
	return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Proto, b.Proto), a.HostIP.Compare(b.HostIP), cmp.Compare(a.Host, b.Host))
}

// wantedPort reads one binding. Its host port is empty, a number or a range.
func wantedPort(port network.Port, b network.PortBinding) (Port, error) {
	p := Port{Proto: string(port.Proto()), Container: port.Num(), HostIP: b.HostIP.Unmap()}
	if !port.IsValid() || p.Container == 0 {
		return p, errdefs.New(errdefs.InvalidArgument, "invalid port specification: %q", port.String())
	}
	first, last, isRange := strings.Cut(b.HostPort, "-")
	var err error
	if p.Host, err = parsePort(first); err == nil && isRange {
		p.HostEnd, err = parsePort(last)
	}
	if err != nil || isRange && (p.Host == 0 || p.HostEnd < p.Host) {
		return p, errdefs.New(errdefs.InvalidArgument, "invalid port specification: %q", b.HostPort)
	}
	if p.HostEnd == p.Host {
		p.HostEnd = 0
	}
	return p, nil
}

func parsePort(s string) (uint16, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// PortMap says published ports in the API's terms; exposed ports that are not
// published have an entry without bindings.
func PortMap(ports []Port, exposed network.PortSet) network.PortMap {
	m := network.PortMap{}
	for port := range exposed {
		m[port] = nil
	}
	for _, p := range ports {
		port, ok := network.PortFrom(p.Container, network.IPProtocol(p.Proto))
		if ok {
			b := network.PortBinding{HostIP: p.HostIP}
			if !p.opened() {
				b.HostPort = strconv.Itoa(int(p.Host))
			}
			m[port] = append(m[port], b)
		}
	}
	return m
}
