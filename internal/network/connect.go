package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
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
	if err := s.preset(ns, e); err != nil {
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

// deleteLink deletes the link of an endpoint now; it may be gone. Others wait for that
// (netlink.Batch.DelLink), so it is for links that nobody else removes, or of which nobody
// hears that they go, and for addresses that somebody asks for.
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
		to := s.exitOf(containerID, f)
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
	err := netns.Do(ns, func() error { return sysctl.Write("net/ipv6/conf/"+e.linkName()+"/disable_ipv6", "1") })
	if errors.Is(err, os.ErrNotExist) { // the container's root has named it otherwise
		return nil
	}
	return err
}
