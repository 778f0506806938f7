package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/vlan"
	"github.com/tare-engine/tare/internal/undo"
)

// Connect gives a container one more endpoint, in its network namespace ns,
// which stays the caller's; nil if it has none yet and Enter will come. The
// container's way out and its published ports move if the new one goes before
// the others. Forbidden is a second endpoint in one network, and what is none of
// several networks (host, none). On error all is as before.
func (s *Service) Connect(ctx context.Context, r Request, ns *os.File) (_ *Endpoint, err error) {
	e, err := s.begin(ctx, r, false)
	if err != nil {
		return nil, err
	}
	if err = sharable(e.network); err == nil && e.network.linked() {
		err = s.connectMore(e, r, ns)
	}
	s.enroll(e, err)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", e.NetworkName, err)
	}
	s.changed(e, true)
	failpoint.Hit("network/connected")
	if err := s.settleExit(r.ContainerID, nil, ns); err != nil {
		return nil, errors.Join(err, s.Disconnect(r.ContainerID, e.NetworkID, ns))
	}
	return e, nil
}

// sharable refuses a network that a container can have only alone.
func sharable(n *Network) error {
	switch n.rec.Driver {
	case "host":
		return errdefs.New(errdefs.Forbidden, "container cannot be disconnected from host network or connected to host network")
	case "null":
		return errdefs.New(errdefs.Forbidden, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return nil
}

func (s *Service) connectMore(e *Endpoint, r Request, ns *os.File) (err error) {
	var u undo.Stack
	defer u.Run(&err)
	if err := s.place(e, r); err != nil {
		return err
	}
	u.Add(func() error { return s.deleteLink(e) })
	u.Add(func() error { s.leaving.add(e); return nil }) // before the kernel says that the link is gone
	if ns == nil {
		return nil
	}
	if err := s.quiet(ns, e); err != nil {
		return err
	}
	inside, err := socketIn(ns)
	if err != nil {
		return err
	}
	if err := errors.Join(s.connectLink(e, ns, inside), inside.Close()); err != nil {
		return err
	}
	return s.limitNew(e)
}

// deleteLink deletes the pair of an endpoint now; it may be gone. Others wait for
// that (netlink.Batch.DelLink), so it is for links that nobody else removes, and
// for addresses that somebody asks for, or links of which nobody hears that they go.
func (s *Service) deleteLink(e *Endpoint) error {
	if e.Netns != nil {
		return vlan.Delete(s.host, *e.Netns, s.hangs(e))
	}
	if e.Index == 0 {
		return nil
	}
	var b netlink.Batch
	b.DelLink(e.Index)
	return s.host.Do(&b)
}

// Disconnect takes a container out of a network. Its link is gone when it returns,
// the address free soon after. ns is the container's namespace, which stays the
// caller's; nil if it has none. Forbidden: the container is not in the network.
// After any other error of this it is out of the network all the same.
func (s *Service) Disconnect(containerID, ref string, ns *os.File) error {
	n, err := s.find(ref)
	if err != nil {
		return err
	}
	s.mu.Lock()
	list := s.endpoints[containerID]
	at := slices.IndexFunc(list, func(e *Endpoint) bool { return e.network == n })
	if at < 0 {
		s.mu.Unlock()
		return errdefs.New(errdefs.Forbidden, "container %s is not connected to network %s", containerID, n.rec.Name)
	}
	e := list[at]
	s.remove(e)
	s.mu.Unlock()
	s.changed(e, false)
	failpoint.Hit("network/disconnected")
	err = errors.Join(s.settleExit(containerID, e, ns), s.withdraw(e, s.takePorts(e, Port.opened)))
	if e.network.linked() {
		s.leaving.add(e)
		err = errors.Join(err, s.deleteLink(e))
	}
	return err
}

// bestExits are the endpoints that are to be the ways out, as with Docker: of those that
// lead out by a family the one of the highest priority, of these one that leads out by
// both, of these the first by the network's name. A family that leads nowhere has none.
func (s *Service) bestExits(containerID string) map[family]*Endpoint {
	list := s.Endpoints(containerID)
	slices.SortStableFunc(list, func(a, b *Endpoint) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(b.ways(), a.ways()), cmp.Compare(a.NetworkName, b.NetworkName))
	})
	best := map[family]*Endpoint{}
	for _, e := range list {
		for _, f := range families {
			if best[f] == nil && e.leadsOut(f) {
				best[f] = e
			}
		}
	}
	return best
}

// ways counts the families by which an endpoint leads out.
func (e *Endpoint) ways() (n int) {
	for _, f := range families {
		if e.gateway(f).IsValid() {
			n++
		}
	}
	return n
}

// settleExit moves the default routes and the host's ports to the endpoints that are to
// be the ways out. left has just left the table, nil if none has. Where there is no way
// out any more, or one by which ports are opened instead, they are not published.
func (s *Service) settleExit(containerID string, left *Endpoint, ns *os.File) error {
	best := s.bestExits(containerID)
	before := s.published(containerID, left)
	var errs []error
	moved := false
	for _, f := range families {
		m, err := s.moveExit(containerID, f, left, best[f], ns)
		moved = moved || m
		errs = append(errs, err)
	}
	if moved {
		errs = append(errs, s.movePorts(containerID, before))
	}
	return errors.Join(errs...)
}

// moveExit is settleExit for one family's route.
func (s *Service) moveExit(containerID string, f family, left, to *Endpoint, ns *os.File) (moved bool, err error) {
	from := s.Exit(containerID, f)
	if from == nil && left != nil && *left.exit(f) {
		from = left
	}
	if from == to {
		return false, nil
	}
	if to != nil && ns != nil && to.made() {
		if err := s.reroute(containerID, f, to, ns); err != nil {
			return false, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if to != nil {
		*to.exit(f) = true
	}
	if from != nil {
		*from.exit(f) = false
	}
	return true, nil
}

// published is how the host's ports of a container are served, by the endpoints at which
// they are published. Those that are opened at its own addresses do not move.
func (s *Service) published(containerID string, left *Endpoint) map[*Endpoint][]way {
	list := s.Endpoints(containerID)
	if left != nil {
		list = append(list, left)
	}
	all := map[*Endpoint][]way{}
	for _, e := range list {
		if ports := slices.DeleteFunc(slices.Clone(s.portsOf(e)), Port.opened); len(ports) > 0 {
			all[e] = s.ways(e, ports)
		}
	}
	return all
}

// movePorts publishes the host's ports of a container at its ways out, which were others
// before. Those that cannot lead there stay reserved for it.
func (s *Service) movePorts(containerID string, before map[*Endpoint][]way) error {
	exits := s.exits(containerID)
	now := map[*Endpoint][]Port{}
	var errs []error
	for from, ways := range before {
		var gone []way
		for _, w := range ways {
			to := exits.of(w.port)
			if to != nil {
				now[to] = append(now[to], w.port)
			}
			if to == nil || s.way(to, w.port) != w {
				gone = append(gone, w)
			}
		}
		s.takePorts(from, func(p Port) bool { return !p.opened() })
		errs = append(errs, s.unserveWays(from, gone))
		s.forgetWays(from, gone)
		for _, w := range gone {
			if exits.of(w.port) == nil {
				s.ports.park(w.port)
			}
		}
	}
	for to, ports := range now {
		errs = append(errs, s.serve(to, ports), s.hairpin(to, ports))
		s.mu.Lock()
		to.Ports = merge(to.Ports, ports)
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

// forgetWays is forgetFlows for what is not served like that any more.
func (s *Service) forgetWays(e *Endpoint, gone []way) {
	var ports []Port
	for _, w := range gone {
		if w.translated {
			ports = append(ports, w.port)
		}
	}
	s.forgetFlows(e, ports, true)
}

// reroute has the container's default route of a family lead to an endpoint. What its
// root has made of the routes otherwise is his business.
func (s *Service) reroute(containerID string, f family, to *Endpoint, ns *os.File) error {
	inside, err := socketIn(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	routes, err := inside.Routes(int(f))
	if err != nil {
		return err
	}
	ours := s.Endpoints(containerID)
	for _, r := range routes {
		others := slices.ContainsFunc(ours, func(e *Endpoint) bool { return e != to && e.Iface == r.Index })
		if r.Dst.Bits() != 0 || !others {
			continue
		}
		var b netlink.Batch
		b.DelRoute(r)
		if err := inside.Do(&b); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	var b netlink.Batch
	b.AddRoute(to.defaultRoute(f))
	switch err := inside.Do(&b); {
	case err == nil || errors.Is(err, syscall.EEXIST):
		return nil
	case len(to.Sysctls) > 0:
		return errdefs.New(errdefs.InvalidArgument, "network %s: the sysctls of the endpoint leave no way out by IPv%d: %w", to.NetworkName, f, err)
	default:
		return err
	}
}

// Settle puts right the endpoints of a container that was adopted, and its way
// out: its engine may have been killed while it was connected or disconnected.
func (s *Service) Settle(containerID string, ns *os.File) error {
	if err := s.removeStrays(containerID, ns); err != nil {
		return err
	}
	list := s.Endpoints(containerID)
	for _, e := range list {
		s.mu.Lock()
		gone := e.gone
		s.mu.Unlock()
		if gone && len(list) > 1 { // it was being disconnected
			if err := s.Disconnect(containerID, e.NetworkID, ns); err != nil {
				return err
			}
		}
	}
	for _, e := range list {
		if e.off6 {
			if err := off6(ns, e); err != nil {
				return err
			}
		}
	}
	if err := s.settleExit(containerID, nil, ns); err != nil {
		return err
	}
	for _, f := range families {
		to := s.Exit(containerID, f)
		s.mu.Lock()
		there := to != nil && to.made() && !to.gone
		s.mu.Unlock()
		if !there {
			continue
		}
		if err := s.reroute(containerID, f, to, ns); err != nil {
			return err
		}
	}
	return nil
}

// off6 has an endpoint's link in the container know no IPv6 any more.
func off6(ns *os.File, e *Endpoint) error {
	name := cmp.Or(e.IfaceName, bridge.InterfaceName(e.Iface))
	err := netns.Do(ns, func() error { return sysctl.Write("net/ipv6/conf/"+name+"/disable_ipv6", "1") })
	if errors.Is(err, os.ErrNotExist) { // the container's root has named it otherwise
		return nil
	}
	return err
}
