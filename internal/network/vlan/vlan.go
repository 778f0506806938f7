// Package vlan makes the links of macvlan and ipvlan networks.
//
// A network hangs on a link of the host, the parent. An endpoint is a link in the
// container's network namespace that sends and receives by the parent: the container is a
// machine of the network that the host is in, with a hardware address of its own (macvlan)
// or the host's (ipvlan).
//
//	host                    container
//	eth0 ─────────┬──────── eth0 192.0.2.7/24, default via 192.0.2.1
//	              └──────── eth0 192.0.2.8/24 …
//
// What goes there passes by the host's firewall, and the host itself is not reached by the
// parent. A parent that is named LINK.ID and is not there is made: the VLAN of that number
// on the link. A network that names none gets a link that loses all that is sent by it, so
// that its containers reach each other only.
//
// An endpoint has no end at the host that could be watched or deleted. The host has a
// number for the container's namespace, by which it finds the link as long as the
// namespace lives.
package vlan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// Parent is what the links of a network's containers hang on.
type Parent struct {
	Options
	index func() int // the next one to try of a link to be made
}

// New returns the parent of a network, which may not be there: Connect looks. index returns
// numbers for links that are to be made.
func New(o Options, index func() int) *Parent { return &Parent{o, index} }

// Ensure finds the parent, or makes it. The kinds of errors say whether the request is
// wrong or the kernel lacks something.
func (p *Parent) Ensure(c *netlink.Conn) error {
	has, err := c.HasKind(p.Kind)
	if err != nil {
		return err
	}
	if !has {
		return errdefs.New(errdefs.NotImplemented, "the kernel has no links of the kind %s, and so no networks of the driver %s", p.Kind, p.Kind)
	}
	_, err = p.find(c)
	return err
}

// Fits refuses (InvalidArgument) an MTU of containers' links that is above the parent's,
// which the kernel does not give to macvlan.
func (p *Parent) Fits(c *netlink.Conn) error {
	l, ok, err := c.LinkByName(p.Name())
	if err != nil || !ok || p.Kind != Macvlan || p.MTU <= l.MTU {
		return err
	}
	return errdefs.New(errdefs.InvalidArgument, "the MTU of a macvlan network is not above its parent's: %d is wanted, %s has %d", p.MTU, l.Name, l.MTU)
}

// find returns the parent's index. It changes when somebody makes the link anew.
func (p *Parent) find(c *netlink.Conn) (int, error) {
	l, ok, err := c.LinkByName(p.Name())
	if err != nil || ok {
		return l.Index, err
	}
	if p.Parent == "" {
		return p.makeSink(c)
	}
	return p.makeVLAN(c)
}

// makeVLAN makes the link of a VLAN.
func (p *Parent) makeVLAN(c *netlink.Conn) (int, error) {
	name, id, err := splitVLAN(p.Parent)
	if err != nil {
		return 0, errdefs.As(errdefs.InvalidArgument, err)
	}
	l, ok, err := c.LinkByName(name)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, errdefs.New(errdefs.InvalidArgument, "-o parent interface was not found on the host: %s", name)
	}
	index, err := p.make(c, func(b *netlink.Batch, index int) { b.AddVLAN(p.Parent, index, l.Index, id) })
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP):
		return 0, errdefs.New(errdefs.NotImplemented, "failed to create %s vlan link: operation not supported: the kernel has no VLANs", p.Parent)
	case err != nil:
		return 0, errdefs.New(errdefs.InvalidArgument, "failed to create %s vlan link: %w", p.Parent, errno(err))
	}
	return index, nil
}

// makeSink makes a link that loses all, of the first kind that the kernel has.
func (p *Parent) makeSink(c *netlink.Conn) (int, error) {
	for _, kind := range []string{"dummy", "ifb"} {
		index, err := p.make(c, func(b *netlink.Batch, index int) { b.AddSink(kind, p.Own, index, p.MTU) })
		if !errors.Is(err, syscall.EOPNOTSUPP) {
			return index, err
		}
	}
	return 0, errdefs.New(errdefs.NotImplemented, "a %s network without a parent needs a link of the kind dummy or ifb, and the kernel has neither: name a parent (-o parent=LINK)", p.Kind)
}

// make makes a link with the engine's alias, by one system call: no kill comes in between.
func (p *Parent) make(c *netlink.Conn, add func(*netlink.Batch, int)) (int, error) {
	var err error
	for range tries {
		index := p.index()
		var b netlink.Batch
		add(&b, index)
		b.SetAlias(index, p.Alias)
		err = c.Do(&b)
		switch {
		case err == nil:
			return index, nil
		case !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.EBUSY):
			return 0, err
		}
		if l, ok, err := c.LinkByName(p.Name()); err != nil || ok { // somebody was quicker
			return l.Index, err
		}
	}
	return 0, err // another link has the VLAN, or many have the numbers
}

// tries is how many numbers of links are tried.
const tries = 10

// errno is the number of a netlink error, whose operation the caller says himself.
func errno(err error) error {
	if e, ok := errors.AsType[*netlink.Error](err); ok {
		return e.Errno
	}
	return err
}

// Remove removes the parent of a network without endpoints if the engine has made it; it
// may be gone. Other networks must not hang on it.
func (p *Parent) Remove(c *netlink.Conn) error {
	l, ok, err := c.LinkByName(p.Name())
	if err != nil || !ok || l.Alias != p.Alias || l.Kind == "bridge" { // of a bridge network
		return err
	}
	var b netlink.Batch
	b.DelLink(l.Index)
	return c.Do(&b)
}

// Endpoint describes a container's place in the network.
type Endpoint struct {
	Name  string // in the container
	Index int    // in the container, once it is there
	Alias string
	Mark  string // its name until it has the alias
	Addrs []netip.Prefix
	MAC   net.HardwareAddr // nil with ipvlan
	Exits []netlink.Route  // over it
	// Before is called before the link is taken up; may be nil.
	Before func() error
}

// Place is where the link of an endpoint is.
type Place struct {
	Netns int // the host's number for the container's network namespace
	Index int // the link's in it
}

// Connect makes the endpoint, of whose network namespace ns is a descriptor and inside a
// socket in it. If the link may be there after an error, there is a place too.
func (p *Parent) Connect(host, inside *netlink.Conn, ns *os.File, e Endpoint) (*Place, error) {
	parent, err := p.find(host)
	if err != nil {
		return nil, err
	}
	number, err := host.NSID(ns)
	if err != nil {
		return nil, err
	}
	occupied := func(err error) bool { return p.Passthru() && errors.Is(err, syscall.EINVAL) }
	if err := patiently(occupied, func() error { return p.add(host, e, parent, ns) }); err != nil {
		if err := p.Fits(host); err != nil {
			return nil, err
		}
		return nil, errdefs.New(errdefs.Conflict, "failed to create the %s port: %w", p.Kind, errno(err))
	}
	failpoint.Hit("network/child-added")
	l, _, err := inside.LinkByName(e.Mark)
	if err != nil {
		return nil, err
	}
	at := &Place{number, l.Index}
	e.Index = l.Index
	if err := settle(inside, e); err != nil {
		return at, err
	}
	failpoint.Hit("network/child-made")
	if e.Before != nil {
		if err := e.Before(); err != nil {
			return at, err
		}
	}
	return at, up(inside, e)
}

// add makes the link, with a name by which it is known as ours.
func (p *Parent) add(host *netlink.Conn, e Endpoint, parent int, ns *os.File) error {
	var b netlink.Batch
	mode, flags := p.numbers()
	b.AddChild(netlink.Child{Kind: p.Kind, Name: e.Mark, Mode: mode, Flags: flags, MAC: e.MAC, MTU: p.MTU, Parent: parent, NS: int(ns.Fd())})
	return host.Do(&b)
}

// settle gives the link its alias, its name and addresses.
func settle(inside *netlink.Conn, e Endpoint) error {
	var b netlink.Batch
	b.SetUp(netlink.Loopback)
	b.SetAlias(e.Index, e.Alias)
	b.SetName(e.Index, e.Name)
	if err := inside.Do(&b); err != nil {
		return err
	}
	for _, a := range e.Addrs {
		err := patiently(taken, func() error { // ipvlan: no two links of a parent have one
			var b netlink.Batch
			b.AddAddr(e.Index, netlink.Addr{Prefix: a})
			return inside.Do(&b)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// taken reports whether what is asked for belongs to another link of the parent.
func taken(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EBUSY)
}

// up takes the link up, with the ways out over it.
func up(inside *netlink.Conn, e Endpoint) error {
	err := patiently(taken, func() error {
		var b netlink.Batch
		b.SetUp(e.Index)
		return inside.Do(&b)
	})
	if err != nil {
		return fmt.Errorf("%w (hardware address %s)", err, e.MAC)
	}
	var routes netlink.Batch
	for _, r := range e.Exits {
		r.Index = e.Index
		routes.AddRoute(r)
	}
	return inside.Do(&routes)
}

// patience is for the kernel to remove the link of a container that has just ended, which
// had the same hardware address, the same address with ipvlan, or the parent for itself.
const patience = 5 * time.Second

// patiently tries as long as the error is one that goes away.
func patiently(goes func(error) bool, try func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := try()
		if err == nil || !goes(err) || time.Now().After(end) {
			return err
		}
	}
}

// Announce has the links that will come into the calling thread's network namespace tell
// the neighbours of their addresses, which may remember another machine's.
func Announce() error {
	for _, name := range []string{"net/ipv4/conf/default/arp_notify", "net/ipv6/conf/default/ndisc_notify"} {
		if err := sysctl.Write(name, "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Own returns an endpoint's link; ok is false if it is gone.
func Own(host *netlink.Conn, nsid int, e Endpoint) (ok bool, err error) {
	l, ok, err := host.LinkIn(nsid, e.Index)
	return ok && (l.Alias == e.Alias || l.Name == e.Mark), err
}

// Delete deletes an endpoint's link; it may be gone.
func Delete(host *netlink.Conn, nsid int, e Endpoint) error {
	if ok, err := Own(host, nsid, e); err != nil || !ok {
		return err
	}
	var b netlink.Batch
	b.DelLinkIn(nsid, e.Index)
	return host.Do(&b)
}
