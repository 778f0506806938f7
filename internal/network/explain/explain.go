// Package explain says what becomes of a packet that is sent to a container, by one
// or to the host: whether it gets there, and what comes back, or which rule of which
// program is in the way, and what to do about it.
//
// It joins what the packet filter's rules say (package trace) with what the engine
// knows of networks and containers, and with routes and sockets of the host. It asks
// for nothing itself: everything it knows is in Facts.
package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/ruleset"
	"github.com/tare-engine/tare/internal/network/trace"
)

// Facts are all that an explanation is made of.
type Facts struct {
	Rules     *ruleset.Ruleset
	Table     string // our own, of the family inet
	Links     []trace.Link
	Networks  []Network
	Endpoints []Endpoint
	Relays    []Relay
	Host      Host
	V4, V6    Family
}

// Family is what the host has of one version of IP.
type Family struct {
	// Outside is a neighbour of the host; zero if it has none. It stands for the world
	// when nobody else is named.
	Outside netip.Addr
	// Forwarding is the host's permission to be a router.
	Forwarding bool
	// Bridged says that the filter sees what stays on a bridge (br_netfilter).
	Bridged bool
}

// Host answers questions about the machine.
type Host interface {
	trace.Host
	// Source is the address that packets to another one bear if their sender has
	// bound none.
	Source(netip.Addr) netip.Addr
	// Listener says which program receives at an address, empty if none; elsewhere
	// lists where else programs receive at this port. pid says in whose network
	// namespace, 0 in the host's.
	Listener(pid int, proto string, at netip.AddrPort) (program string, elsewhere []netip.AddrPort, err error)
}

// Network is a network of containers, as far as it is of one version of IP: one with
// both is in the list twice.
type Network struct {
	Name     string
	Link     string // of the bridge
	Subnet   netip.Prefix
	Gateway  netip.Addr
	ICC      bool
	Internal bool
}

// Endpoint is a container in a network; one with addresses of both versions of IP is in
// the list twice.
type Endpoint struct {
	ContainerID string
	Name        string
	PID         int        // of the container; 0: its sockets cannot be looked at
	Network     string     // name
	IP          netip.Addr // zero in the networks host and none
	Link        string     // the host's end
	Beside      bool       // the bridge: without a port of it
	Exit        bool       // the container's way out
	Ports       []Port
}

// Port is a published port.
type Port struct {
	Proto     string
	Host      netip.AddrPort
	Container uint16
}

// Relay is a published port whose packets the engine takes itself, if no rule translates
// them, and carries to a container.
type Relay struct {
	Name  string // of the container
	Proto string
	Host  netip.AddrPort
	To    netip.AddrPort // may be of the other version of IP
}

// way is one packet's.
type way struct {
	Facts
	Family
	whole Facts // also of the other version
	six   bool  // it is a packet of IPv6
	walk  *trace.Walk
	p     trace.Packet
	from  party
	to    *Endpoint // that the packet is to reach, if it was named
	// translated is the rule that has changed the destination; nil if none has.
	translated *api.FilterPlace
	ex         api.NetworkExplanation
	asks       api.NetworkExplainOptions
	port       uint16
}

// party is a sender.
type party struct {
	addr netip.Addr
	host bool
	ep   *Endpoint // a container
	what string
}

// Explain follows the packet there and the answer back. InvalidArgument is a
// question that cannot be understood, NotFound one about a container that has no
// endpoint.
func Explain(f Facts, o api.NetworkExplainOptions) (api.NetworkExplanation, error) {
	w := &way{whole: f, walk: trace.New(f.Rules, f.Host), asks: o}
	w.ex.Steps = []api.NetworkStep{}
	var err error
	if err = w.parsePort(); err != nil {
		return w.ex, err
	}
	if err = w.chooseFamily(); err != nil {
		return w.ex, err
	}
	if w.from, err = w.sender(); err != nil {
		return w.ex, err
	}
	to, err := w.receiver()
	if err != nil {
		return w.ex, err
	}
	w.p = trace.Packet{Proto: w.ex.Proto, Src: netip.AddrPortFrom(w.from.addr, 0), Dst: to, State: "new"}
	w.ex.From = w.from.addr.String() + " (" + w.from.what + ")"
	w.ex.To = to.String()
	if w.to != nil {
		w.ex.To += " (container " + w.to.Name + ")"
	}
	w.follow()
	w.conclude()
	return w.ex, nil
}

// parsePort reads 8080/tcp, tcp/8080, 8080, and a port with the address before it, such
// as [2001:db8::1]:8080/tcp.
func (w *way) parsePort() error {
	isPort := func(s string) bool {
		_, err := netip.ParseAddrPort(s)
		_, number := strconv.Atoi(s)
		return err == nil || number == nil
	}
	number, proto, ok := strings.Cut(w.asks.Port, "/")
	if ok && !isPort(number) {
		number, proto = proto, number
	}
	if at, err := netip.ParseAddrPort(number); err == nil {
		if w.asks.To != "" {
			return errdefs.New(errdefs.InvalidArgument, "%s and %q both say where to", w.asks.To, w.asks.Port)
		}
		w.asks.To, number = at.Addr().String(), strconv.Itoa(int(at.Port()))
	}
	proto = cmp.Or(strings.ToLower(proto), "tcp")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || proto != "tcp" && proto != "udp" && proto != "sctp" {
		return errdefs.New(errdefs.InvalidArgument, "invalid port %q: PORT/PROTO, such as 8080/tcp", w.asks.Port)
	}
	w.ex.Proto, w.port = proto, uint16(n)
	return nil
}

// parseAddr reads an address, also one in brackets.
func parseAddr(s string) (netip.Addr, bool) {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil
}

// chooseFamily finds out which version of IP the question is about, and leaves the other
// out: that of an address; that which a container has; else IPv4, unless the host is
// asked for whose neighbours have IPv6 only.
func (w *way) chooseFamily() error {
	w.six = w.asks.IPv6 || w.asks.From == "" && !w.whole.V4.Outside.IsValid() && w.whole.V6.Outside.IsValid()
	said := ""
	if w.asks.IPv6 {
		said = "IPv6"
	}
	for _, name := range []string{w.asks.From, w.asks.To} {
		a, ok := parseAddr(name)
		switch {
		case ok && a.IsLinkLocalUnicast():
			return errdefs.New(errdefs.InvalidArgument, "%s: addresses that are of one link only are not explained", a)
		case ok && said != "" && a.Is6() != w.six:
			return errdefs.New(errdefs.InvalidArgument, "%s and %s are of different versions of IP", said, a)
		case ok:
			w.six, said = a.Is6(), a.String()
		}
	}
	for _, name := range []string{w.asks.From, w.asks.To} {
		if said == "" && w.only6(name) {
			w.six = true
		}
	}
	w.goesBy(w.six)
	return nil
}

// goesBy makes it a packet of IPv6, or of IPv4, and leaves out what is of the other.
func (w *way) goesBy(six bool) {
	w.six, w.Facts, w.Family = six, w.whole, w.whole.V4
	if six {
		w.Family = w.whole.V6
	}
	w.Endpoints = slices.DeleteFunc(slices.Clone(w.Endpoints), func(e Endpoint) bool { return e.IP.IsValid() && e.IP.Is6() != six })
	w.Networks = slices.DeleteFunc(slices.Clone(w.Networks), func(n Network) bool { return n.Subnet.Addr().Is6() != six })
}

// only6 reports whether a name is that of a container which has addresses of IPv6 only.
func (w *way) only6(ref string) bool {
	has := map[bool]bool{}
	for _, e := range w.whole.Endpoints {
		if ref != "" && e.is(ref) && e.IP.IsValid() {
			has[e.IP.Is6()] = true
		}
	}
	return has[true] && !has[false]
}

// version is the packet's version of IP.
func (w *way) version() string {
	if w.six {
		return "IPv6"
	}
	return "IPv4"
}

// is reports whether a container is called so.
func (e *Endpoint) is(ref string) bool { return e.Name == ref || strings.HasPrefix(e.ContainerID, ref) }

// loopback is the host's address for itself. Of IPv6 that is no sender to containers:
// the kernel routes no answer there.
func (w *way) loopback() netip.Addr {
	if !w.six {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if w.Outside.IsValid() {
		if a := w.Host.Addr(w.Host.Via(w.Outside), w.Outside); a.IsValid() {
			return a
		}
	}
	return netip.IPv6Loopback()
}

// sender finds out who sends.
func (w *way) sender() (party, error) {
	from := w.asks.From
	switch {
	case from == "host":
		return party{addr: w.loopback(), host: true, what: "the host"}, nil
	case from == "" && !w.Outside.IsValid():
		return party{}, errdefs.New(errdefs.InvalidArgument, "the host has no neighbour that could send the packet: say --from ADDRESS, host or CONTAINER")
	case from == "":
		return party{addr: w.Outside, what: "a neighbour on " + w.Host.Via(w.Outside)}, nil
	}
	if a, ok := parseAddr(from); ok {
		return w.senderAt(a)
	}
	ep, err := w.container(from, nil)
	if err != nil {
		return party{}, err
	}
	if !ep.IP.IsValid() {
		if ep.Network == "host" {
			return party{addr: w.loopback(), host: true, what: "container " + ep.Name + " in the host's network"}, nil
		}
		return party{}, errdefs.New(errdefs.InvalidArgument, "container %s has no network", ep.Name)
	}
	return party{addr: ep.IP, ep: ep, what: "container " + ep.Name}, nil
}

func (w *way) senderAt(a netip.Addr) (party, error) {
	if w.Host.Type(a) == "local" {
		return party{addr: a, host: true, what: "the host"}, nil
	}
	if ep := w.at(a); ep != nil {
		return party{addr: a, ep: ep, what: "container " + ep.Name}, nil
	}
	link := w.Host.Via(a)
	if link == "" {
		return party{}, errdefs.New(errdefs.InvalidArgument, "no route leads to %s", a)
	}
	return party{addr: a, what: "on " + link}, nil
}

// at is the endpoint that has an address; nil if none has.
func (w *way) at(a netip.Addr) *Endpoint {
	i := slices.IndexFunc(w.Endpoints, func(e Endpoint) bool { return e.IP == a })
	if i < 0 {
		return nil
	}
	return &w.Endpoints[i]
}

// container finds a container's endpoint by name or by ID: the one in a network of
// a given sender, or else the way out.
func (w *way) container(ref string, sender *Endpoint) (*Endpoint, error) {
	var found *Endpoint
	for i := range w.Endpoints {
		e := &w.Endpoints[i]
		if !e.is(ref) {
			continue
		}
		if found != nil && found.ContainerID != e.ContainerID && found.Name != ref && e.Name != ref {
			return nil, errdefs.New(errdefs.InvalidArgument, "Multiple IDs found with provided prefix: %s", ref)
		}
		switch {
		case sender != nil && sender.Network == e.Network:
			return e, nil
		case found == nil || e.Exit:
			found = e
		}
	}
	if found == nil && slices.ContainsFunc(w.whole.Endpoints, func(e Endpoint) bool { return e.is(ref) }) {
		return nil, errdefs.New(errdefs.InvalidArgument, "container %s has no address of %s", ref, w.version())
	}
	if found == nil {
		return nil, errdefs.New(errdefs.NotFound, "no container %s is connected to a network", ref)
	}
	return found, nil
}

// receiver finds out where the packet is sent to.
func (w *way) receiver() (netip.AddrPort, error) {
	if w.asks.To == "" {
		return netip.AddrPortFrom(w.hostAddr(), w.port), nil
	}
	if a, ok := parseAddr(w.asks.To); ok {
		return netip.AddrPortFrom(a, w.port), nil
	}
	ep, err := w.container(w.asks.To, w.from.ep)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if !ep.IP.IsValid() {
		return netip.AddrPortFrom(w.hostAddr(), w.port), nil
	}
	w.to = ep
	if w.from.ep != nil && w.from.ep.Network == ep.Network {
		return netip.AddrPortFrom(ep.IP, w.port), nil
	}
	return w.published(ep), nil
}

// published is where on the host a container's port is published, or else its own
// address.
func (w *way) published(ep *Endpoint) netip.AddrPort {
	host := w.hostAddr()
	var other netip.AddrPort
	for _, p := range ep.Ports {
		if p.Proto != w.ex.Proto || p.Container != w.port {
			continue
		}
		if p.Host.Addr().IsUnspecified() || p.Host.Addr() == host {
			return netip.AddrPortFrom(host, p.Host.Port())
		}
		other = netip.AddrPortFrom(host, p.Host.Port())
		if !p.Host.Addr().IsLoopback() || w.from.host { // the sender can name that address
			other = p.Host
		}
	}
	if other.IsValid() {
		return other
	}
	return netip.AddrPortFrom(ep.IP, w.port)
}

// hostAddr is the host's address as the sender would name it.
func (w *way) hostAddr() netip.Addr {
	switch {
	case w.from.host:
		return w.from.addr
	case w.from.ep != nil:
		return w.network(w.from.ep.Network).Gateway
	}
	return w.Host.Addr(w.Host.Via(w.from.addr), w.from.addr)
}

// network finds a network; an empty one if there is none of that name.
func (w *way) network(name string) Network {
	for _, n := range w.Networks {
		if n.Name == name {
			return n
		}
	}
	return Network{Name: name}
}

// networkOf is the one with a link of a name.
func (w *way) networkOf(link string) (Network, bool) {
	for _, n := range w.Networks {
		if n.Link == link {
			return n, true
		}
	}
	for _, e := range w.Endpoints {
		if e.Link == link && link != "" {
			return w.network(e.Network), true
		}
	}
	return Network{}, false
}

func (w *way) link(name string) trace.Link {
	for _, l := range w.Links {
		if l.Name == name {
			return l
		}
	}
	return trace.Link{Name: name}
}

// enters is the link by which an endpoint's packets come to the host.
func (w *way) enters(e *Endpoint) trace.Link {
	if e.Beside {
		return w.link(e.Link)
	}
	return w.link(w.network(e.Network).Link)
}

func (w *way) step(where, format string, args ...any) {
	w.ex.Steps = append(w.ex.Steps, api.NetworkStep{Where: where, What: fmt.Sprintf(format, args...)})
}

// blocked ends the way.
func (w *way) blocked(advice, format string, args ...any) bool {
	w.ex.Verdict, w.ex.Reason, w.ex.Advice = api.VerdictBlocked, fmt.Sprintf(format, args...), advice
	return true
}

// conclude says what the doubts make of the verdict.
func (w *way) conclude() {
	if len(w.ex.Doubts) == 0 || w.ex.Verdict == api.VerdictBlocked && w.ex.Place == nil {
		return
	}
	d := w.ex.Doubts[0]
	otherwise := "it passes"
	if w.ex.Verdict == api.VerdictBlocked {
		otherwise = w.ex.Reason
	}
	w.ex.Verdict = api.VerdictUnknown
	w.ex.Reason = fmt.Sprintf("cannot tell: %s has an expression that cannot be evaluated (%s) and may %s; else %s", where(d), d.Doubt, cmp.Or(d.Does, "decide"), otherwise)
}

// where names a place in words.
func where(p api.FilterPlace) string {
	s := "table " + p.Table
	if p.Chain != "" {
		s += ", chain " + p.Chain
	}
	if p.Handle != 0 {
		s += ", rule " + strconv.FormatUint(p.Handle, 10)
	}
	return s
}
