package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/network/trace"
)

// follow takes the packet to its end, and the answer back.
func (w *way) follow() {
	if w.from.host {
		w.fromHost()
	} else {
		w.fromLink()
	}
}

// hook takes the packet through the chains of a hook; true if it ends there.
func (w *way) hook(name string) bool {
	out := w.walk.Hook(name, &w.p)
	for _, c := range out.Changes {
		w.step(name, "%s: %s", where(place(c)), c.Does)
		if strings.HasPrefix(c.Does, "dnat") {
			p := place(c)
			w.translated = &p
		}
	}
	for _, d := range out.Doubts {
		w.ex.Doubts = append(w.ex.Doubts, place(d))
	}
	if out.Dropped == nil {
		if len(out.Chains) > 0 && len(out.Changes) == 0 {
			w.step(name, "passes %s", strings.Join(out.Chains, ", "))
		}
		return false
	}
	if len(out.Doubts) == 0 {
		w.ex.Doubts = nil // what may have dropped it before does not matter
	}
	p := place(*out.Dropped)
	w.ex.Place = &p
	w.step(name, "%s: %s", where(p), p.Rule)
	verb := "dropped"
	if p.Does == "reject" {
		verb = "rejected"
	}
	what := "the packet"
	if w.p.Reply {
		what = "the answer"
	}
	return w.blocked(w.advice(p), "%s is %s by %s: %s", what, verb, where(p), p.Rule)
}

func place(p trace.Place) api.FilterPlace {
	return api.FilterPlace{Hook: p.Hook, Table: p.Table, Chain: p.Chain, Base: p.Base, Handle: p.Handle, Rule: p.Rule, Does: p.Does, Doubt: p.Doubt}
}

// hooks goes through several hooks.
func (w *way) hooks(names ...string) bool {
	for _, n := range names {
		if w.hook(n) {
			return true
		}
	}
	return false
}

// fromLink is the way of a packet that comes to the host from outside or from a
// container.
func (w *way) fromLink() {
	if w.from.ep != nil {
		if w.bridged() {
			return
		}
		w.p.In = w.enters(w.from.ep)
	} else {
		w.p.In = w.link(w.Host.Via(w.from.addr))
	}
	if w.hooks("ingress", "prerouting") {
		return
	}
	if w.six && w.p.Dst.Addr().IsLoopback() {
		w.blocked("publish the port at an address of the host", "the kernel takes no packets for %s from other machines", w.p.Dst.Addr())
		return
	}
	if w.Host.Type(w.p.Dst.Addr()) == "local" {
		if !w.hook("input") {
			w.host()
		}
		return
	}
	if w.forwarded() {
		return
	}
	w.arrive()
}

// forwarded takes the packet through the host; true if it ends there.
func (w *way) forwarded() bool {
	if !w.Forwarding {
		return w.blocked("sysctl "+w.forwarding()+"=1", "the host forwards nothing: %s is 0", w.forwarding())
	}
	if w.p.Out = w.link(w.Host.Via(w.p.Dst.Addr())); w.p.Out.Name == "" {
		return w.blocked("", "the host has no route to %s", w.p.Dst.Addr())
	}
	return w.hooks("forward", "postrouting", "egress")
}

// forwarding names the parameter that makes the host a router.
func (w *way) forwarding() string {
	if w.six {
		return "net.ipv6.conf.all.forwarding"
	}
	return "net.ipv4.ip_forward"
}

// bridged is the way between two containers of a network, if it is one; the packet
// stays on the bridge.
func (w *way) bridged() bool {
	to, from := w.at(w.p.Dst.Addr()), w.from.ep
	if to == nil || to.Network != from.Network || to.Beside || from.Beside {
		return false
	}
	n := w.network(from.Network)
	if !n.ICC {
		return w.blocked(together, "containers of network %s do not reach each other (its ports on bridge %s are isolated)", n.Name, n.Link)
	}
	w.step("bridge", "from %s to %s on %s", from.Link, to.Link, n.Link)
	if w.Bridged {
		w.p.In, w.p.Out = w.link(n.Link), w.link(n.Link)
		if w.hooks("prerouting", "forward", "postrouting") {
			return true
		}
	}
	w.foreignBridge()
	w.arrive()
	return true
}

// foreignBridge doubts tables of the family bridge, which are not walked through.
func (w *way) foreignBridge() {
	for _, c := range w.Rules.Chains {
		if c.Family == "bridge" && c.Hook != "" && (len(c.Rules) > 0 || c.Drops) {
			w.ex.Doubts = append(w.ex.Doubts, api.FilterPlace{Hook: c.Hook, Table: c.Table.String(), Chain: c.Chain, Doubt: "family bridge", Rule: "chains of this family are not followed"})
		}
	}
}

// fromHost is the way of a packet that a process of the host sends.
func (w *way) fromHost() {
	w.p.Out = w.link(w.Host.Via(w.p.Dst.Addr()))
	if w.p.Out.Name == "" {
		w.blocked("", "the host has no route to %s", w.p.Dst.Addr())
		return
	}
	if w.p.Out.Name != "lo" { // a client that has bound nothing
		w.p.Src = netip.AddrPortFrom(w.Host.Source(w.p.Dst.Addr()), 0)
		w.ex.From = fmt.Sprintf("%s (%s)", w.p.Src.Addr(), w.from.what)
	}
	w.carried()
}

// carried is the way of a packet that the host sends by a link that has been chosen.
func (w *way) carried() {
	w.p.Out = w.link(w.Host.Via(w.p.Dst.Addr()))
	if w.hook("output") {
		return
	}
	w.p.Out = w.link(w.Host.Via(w.p.Dst.Addr()))
	if w.hooks("postrouting", "egress") {
		return
	}
	if w.p.Out.Name != "lo" {
		w.arrive()
		return
	}
	w.p.In, w.p.Out = w.p.Out, trace.Link{}
	if !w.hooks("ingress", "prerouting", "input") {
		w.host()
	}
}

// arrive ends at a container, or in the world, and goes the way back.
func (w *way) arrive() {
	to := w.at(w.p.Dst.Addr())
	n, own := w.networkOf(w.p.Out.Name)
	switch {
	case to == nil && own:
		w.nobodyAt(n)
		return
	case to != nil && w.nobodyIn(to):
		return
	}
	if w.answer() {
		return
	}
	w.ex.Verdict = api.VerdictPasses
	if to != nil {
		w.ex.Reason = fmt.Sprintf("the packet reaches container %s at %s, and the answer comes back", to.Name, w.p.Src)
	} else {
		w.ex.Reason = fmt.Sprintf("the packet leaves for %s by %s, and the answer would come back", w.p.Src, w.p.In.Name)
	}
}

// nobodyAt ends at an address of a network that no container has: as it was asked
// for, or as a rule has translated it.
func (w *way) nobodyAt(n Network) {
	if w.translated == nil {
		w.blocked("", "no container of network %s has the address %s", n.Name, w.p.Dst.Addr())
		return
	}
	w.ex.Place = w.translated
	w.blocked(w.advice(*w.translated), "no container of network %s has the address %s, to which %s translates: %s",
		n.Name, w.p.Dst.Addr(), where(*w.translated), w.translated.Rule)
}

// nobodyIn reports that no program in a container receives the packet.
func (w *way) nobodyIn(e *Endpoint) bool {
	if e.PID == 0 || w.p.Proto == "sctp" {
		return false
	}
	program, elsewhere, err := w.Host.Listener(e.PID, w.p.Proto, w.p.Dst)
	switch {
	case err != nil:
		w.step("container", "its sockets cannot be seen: %v", err)
		return false
	case program != "":
		w.step("container", "%s receives at port %d", program, w.p.Dst.Port())
		return false
	}
	if len(elsewhere) > 0 {
		return w.blocked("have it listen at "+map[bool]string{false: "0.0.0.0", true: "::"}[w.six], "the packet gets into container %s, but its program listens at %s only", e.Name, join(elsewhere))
	}
	return w.blocked("", "the packet gets into container %s, but no program there listens at %d/%s", e.Name, w.p.Dst.Port(), w.p.Proto)
}

func join(list []netip.AddrPort) string {
	var all []string
	for _, a := range list {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}

// answer is the way back from where the packet has got; true if it ends.
func (w *way) answer() bool {
	there := w.p
	w.p.Src, w.p.Dst, w.p.In, w.p.Out = there.Dst, there.Src, there.Out, there.In
	w.p.State, w.p.Reply = "established", true
	w.step("answer", "from %s", w.p.Src)
	switch {
	case w.from.host:
		w.p.Out = trace.Link{}
		return w.hooks("ingress", "prerouting", "input")
	case there.In.Name == there.Out.Name && there.In.Name != "": // on a bridge
		return w.hooks("prerouting", "forward", "postrouting")
	case there.In.Name == "":
		return false // on a bridge, where the filter sees nothing
	}
	w.p.Out = trace.Link{}
	if w.hooks("ingress", "prerouting") {
		return true
	}
	w.p.Out = there.In
	return w.hooks("forward", "postrouting", "egress")
}

// host ends at the host itself, where a process may receive.
func (w *way) host() {
	if w.relayed() {
		return
	}
	at := w.p.Dst
	program, elsewhere, err := w.Host.Listener(0, w.p.Proto, at)
	switch {
	case err != nil:
		w.blocked("", "sockets of the host cannot be seen: %v", err)
	case program != "":
		w.hostAnswers(program)
	case w.publishedHere(at):
	case w.publishedElsewhere():
	case len(elsewhere) > 0:
		w.blocked("", "no container has published %s/%s, and the host's own program listens at %s only", at, w.p.Proto, join(elsewhere))
	default:
		w.blocked(fmt.Sprintf("publish it: tare run -p %d:PORT", at.Port()), "no container has published %s/%s, and no process of the host listens there", at, w.p.Proto)
	}
}

// relayed is the way of a packet that the engine takes itself, and carries on by a
// connection of the host's with a container; false if it carries none from there.
func (w *way) relayed() bool {
	i := slices.IndexFunc(w.Relays, func(r Relay) bool {
		all := r.Host.Addr().IsUnspecified() && r.Host.Addr().Is6() == w.six
		return r.Proto == w.p.Proto && r.Host.Port() == w.p.Dst.Port() && (all || r.Host.Addr() == w.p.Dst.Addr())
	})
	if i < 0 {
		return false
	}
	r := w.Relays[i]
	if from := w.from.ep; from != nil && w.network(from.Network).Internal {
		return w.blocked("the network is internal: connect the container to one that is not (tare network connect)",
			"network %s is internal: the engine carries nothing from it to other containers", from.Network)
	}
	if w.backFromHost() {
		return true
	}
	w.step("relay", "the engine takes what is sent to %s, and carries it to container %s at %s", r.Host, r.Name, r.To)
	w.goesBy(r.To.Addr().Is6())
	w.from = party{addr: w.Host.Source(r.To.Addr()), host: true, what: "the host"}
	w.p = trace.Packet{Proto: r.Proto, Src: netip.AddrPortFrom(w.from.addr, 0), Dst: r.To, State: "new"}
	w.carried()
	return true
}

// backFromHost is the way back from the host itself; true if it ends.
func (w *way) backFromHost() bool {
	there := w.p
	w.p.Src, w.p.Dst, w.p.In, w.p.Out = there.Dst, there.Src, trace.Link{}, there.In
	w.p.State, w.p.Reply = "established", true
	return w.hooks("output", "postrouting", "egress")
}

// hostAnswers is the way back from a process of the host.
func (w *way) hostAnswers(program string) {
	if w.backFromHost() {
		return
	}
	w.ex.Verdict = api.VerdictPasses
	w.ex.Reason = fmt.Sprintf("%s of the host has the port, no container: it receives the packet", program)
	if w.to != nil || w.asks.To == "" {
		w.ex.Advice = "stop it, or publish the container at another port"
	}
}

// publishedHere reports that a container has the port at this address, or at all, and that
// no rule leads there.
func (w *way) publishedHere(at netip.AddrPort) bool {
	here := func(p Port) bool {
		return p.Proto == w.p.Proto && p.Host.Port() == at.Port() && (p.Host.Addr() == at.Addr() || p.Host.Addr().IsUnspecified())
	}
	i := slices.IndexFunc(w.Endpoints, func(e Endpoint) bool { return slices.ContainsFunc(e.Ports, here) })
	switch {
	case i < 0:
		return false
	case w.six && at.Addr().IsLoopback():
		return w.blocked("ask at 127.0.0.1, or at an address of the host",
			"container %s has published %s/%s, but clients at %s are not served: the kernel cannot send an answer back there, and the engine carries none (not of sctp, and nothing with --userland-proxy=false)",
			w.Endpoints[i].Name, at, w.p.Proto, at.Addr())
	}
	return w.blocked("ask again in two seconds: the engine puts it back", "container %s has published %s/%s, but the rule that leads there is gone: another program has changed table inet %s",
		w.Endpoints[i].Name, at, w.p.Proto, w.Table)
}

// publishedElsewhere reports that a container has the port at another address.
func (w *way) publishedElsewhere() bool {
	var at []netip.AddrPort
	var name string
	for _, e := range w.Endpoints {
		for _, p := range e.Ports {
			if p.Proto == w.p.Proto && p.Host.Port() == w.p.Dst.Port() {
				at, name = append(at, p.Host), e.Name
			}
		}
	}
	if len(at) == 0 {
		return false
	}
	advice := fmt.Sprintf("publish it at %s or at all addresses", w.p.Dst.Addr())
	return w.blocked(advice, "container %s has published the port at %s only, and no process of the host listens at %s", name, join(at), w.p.Dst)
}
