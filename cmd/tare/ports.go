package main

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// portList shows ports as ps does: neighbours that are published under their
// own number, or not at all, become a range; the others stand at the end.
func portList(ports []container.PortSummary) string {
	if len(ports) == 0 {
		return ""
	}
	ports = slices.Clone(ports)
	slices.SortFunc(ports, comparePorts)
	var done, moved []string
	var open []portRange // the last range of each address and protocol
	for _, p := range ports {
		if p.IP.IsValid() && p.PublicPort != p.PrivatePort {
			moved = append(moved, hostPort(p.IP, strconv.Itoa(int(p.PublicPort)))+"->"+strconv.Itoa(int(p.PrivatePort))+"/"+p.Type)
			continue
		}
		i := slices.IndexFunc(open, func(r portRange) bool { return r.ip == p.IP && r.proto == p.Type })
		switch {
		case i < 0:
			open = append(open, portRange{p.IP, p.Type, p.PrivatePort, p.PrivatePort})
		case p.PrivatePort == open[i].last+1:
			open[i].last++
		default:
			done = append(done, open[i].String())
			open[i].first, open[i].last = p.PrivatePort, p.PrivatePort
		}
	}
	for _, r := range open {
		done = append(done, r.String())
	}
	return strings.Join(append(done, moved...), ", ")
}

type portRange struct {
	ip          netip.Addr // of the host; not valid where nothing is published
	proto       string
	first, last uint16
}

func (r portRange) String() string {
	ports := strconv.Itoa(int(r.first))
	if r.last != r.first {
		ports += "-" + strconv.Itoa(int(r.last))
	}
	if r.ip.IsValid() {
		ports = hostPort(r.ip, ports) + "->" + ports
	}
	return ports + "/" + r.proto
}

func comparePorts(a, b container.PortSummary) int {
	return cmp.Or(
		cmp.Compare(a.PrivatePort, b.PrivatePort),
		a.IP.Compare(b.IP),
		cmp.Compare(a.PublicPort, b.PublicPort),
		cmp.Compare(a.Type, b.Type),
	)
}

func hostPort(ip netip.Addr, port string) string { return net.JoinHostPort(ip.String(), port) }
