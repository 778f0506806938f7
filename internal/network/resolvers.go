package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network/dns"
	"github.com/tare-engine/tare/internal/network/etc"
)

// resolvers are the name servers of containers on networks that users make.
type resolvers struct {
	*dns.Server

	mu      sync.Mutex
	servers map[string][]string    // by container: its own upstreams, if it names some
	kept    map[uint64]dns.Sockets // by namespace: the last engine's, until its container is found
}

// ServeNames has the queries of a container answered, in its namespace ns, which
// stays the caller's, if it is in a network that a user has made; else nothing
// happens. servers are those that it names itself. After Adopt it is called for each
// container that runs, and LeaveNames then.
func (s *Service) ServeNames(containerID string, servers []string, ns *os.File) error {
	r := s.resolvers
	r.mu.Lock()
	r.servers[containerID] = or(servers, s.cfg.DNS)
	r.mu.Unlock()
	if r.Sockets(containerID) != nil {
		return nil
	}
	sockets, found, err := r.take(ns)
	if err != nil {
		return err
	}
	if !found {
		if !slices.ContainsFunc(s.Endpoints(containerID), (*Endpoint).named) {
			return nil
		}
		if sockets, err = dns.Listen(ns); err != nil {
			return err
		}
	}
	if err := r.Add(containerID, sockets); err != nil {
		return errors.Join(err, sockets.Close())
	}
	return nil
}

// LeaveNames gives up name servers of the last engine whose containers are gone.
func (s *Service) LeaveNames() error {
	r := s.resolvers
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, sockets := range r.kept {
		errs = append(errs, sockets.Close())
	}
	r.kept = nil
	return errors.Join(errs...)
}

// leave ends the service for a container.
func (r *resolvers) leave(containerID string) {
	r.Remove(containerID)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.servers, containerID)
}

// keep takes the sockets of the last engine's name servers out of a list. Those in the
// host's own namespace reserve ports that are published on the servers' address.
func (r *resolvers) keep(held []*os.File) (rest []*os.File, err error) {
	host, err := netns.Open()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = map[uint64]dns.Sockets{}
	for _, f := range held {
		kind, ok := dns.Own(f)
		if !ok {
			rest = append(rest, f)
			continue
		}
		ns, err := netns.OfSocket(f)
		if err != nil {
			f.Close()
			continue
		}
		id := inode(ns)
		ns.Close()
		if id == inode(host) {
			rest = append(rest, f)
			continue
		}
		pair := r.kept[id]
		if have := pair.Of(kind); *have != nil {
			f.Close()
		} else {
			*have = f
		}
		r.kept[id] = pair
	}
	return rest, nil
}

// take returns the last engine's sockets in a namespace.
func (r *resolvers) take(ns *os.File) (pair dns.Sockets, found bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := inode(ns)
	pair, found = r.kept[id]
	delete(r.kept, id)
	if found && (pair.UDP == nil || pair.TCP == nil) {
		return dns.Sockets{}, false, pair.Close()
	}
	return pair, found, nil
}

// inode is that of a namespace, which no other has while it is open; 0 if it cannot
// be read.
func inode(ns *os.File) uint64 {
	info, err := ns.Stat()
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// named says that containers of the endpoint's network find each other by name.
func (e *Endpoint) named() bool { return e.network.linked() && !e.network.predefined() }

// directory is what the name servers know.
type directory struct{ *Service }

// hostID stands for the host where it asks, hostDomain is what its names end in.
const (
	hostID     = "host"
	hostDomain = ".tare"
)

// serveHost has the host's programs find containers as NAME.tare at an address.
func (s *Service) serveHost(at netip.Addr) error {
	sockets, err := dns.Bind(netip.AddrPortFrom(at, dns.Port))
	if err != nil {
		return fmt.Errorf("names of containers for the host at %s: %w", at, err)
	}
	return s.resolvers.Add(hostID, sockets)
}

// Addresses is part of dns.Names.
func (d directory) Addresses(containerID, name string) (addrs []netip.Addr, known bool) {
	if containerID != hostID {
		return d.table.Addresses(containerID, name)
	}
	name, known = strings.CutSuffix(name, hostDomain)
	if known {
		addrs = d.ofContainer(name)
	}
	return addrs, known
}

// Name is part of dns.Names. The addresses of a container's networks are nobody
// else's to name.
func (d directory) Name(containerID string, addr netip.Addr) (name string, ours bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if containerID == hostID {
		for _, n := range d.all() {
			if e := d.hostOf(n.rec.ID, addr); e != nil {
				return e.Name + hostDomain, true
			}
		}
		return "", false
	}
	for _, e := range d.endpoints[containerID] {
		if !e.named() || !e.IP.Masked().Contains(addr) && !e.IP6.Masked().Contains(addr) {
			continue
		}
		if host := d.hostOf(e.NetworkID, addr); host != nil {
			return host.Name + "." + e.NetworkName, true
		}
		ours = true
	}
	return "", ours
}

// Upstreams is part of dns.Names: the servers that the container or the engine names,
// else the host's as they are now. The host's namespace is not used for a container
// that has no way out.
func (d directory) Upstreams(containerID string) []dns.Upstream {
	if containerID == hostID {
		return nil // the host has others to ask
	}
	r := d.resolvers
	r.mu.Lock()
	servers := r.servers[containerID]
	r.mu.Unlock()
	var list []dns.Upstream
	for _, text := range servers {
		if a, err := netip.ParseAddr(text); err == nil {
			list = append(list, dns.Upstream{Addr: netip.AddrPortFrom(a, dns.Port)})
		}
	}
	if len(servers) > 0 {
		return list
	}
	b, err := readFile(resolvConf)
	if err != nil {
		d.log.Warn("name servers of the host", "err", err)
	}
	return hostUpstreams(b, d.exitOf(containerID, v4) != nil, d.exitOf(containerID, v6) != nil)
}

// hostUpstreams are the servers of the host's resolv.conf for a container, which has a
// way out by a family or not. With one by the other family only, the host asks for it.
func hostUpstreams(resolv []byte, out4, out6 bool) (list []dns.Upstream) {
	for _, text := range etc.ParseResolver(resolv).Nameservers {
		a, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		host := a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is6() && !out6 || a.Is4() && !out4 && out6
		if out4 || out6 || !host {
			list = append(list, dns.Upstream{Addr: netip.AddrPortFrom(a, dns.Port), Host: host})
		}
	}
	return list
}
