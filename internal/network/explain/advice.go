package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/linux/ruleset"
)

// advice says what to do about a rule.
func (w *way) advice(p api.FilterPlace) string {
	if p.Table == "inet "+w.Table {
		return w.ownAdvice(p)
	}
	list := "nft -a list chain " + p.Table + " " + p.Chain
	old := strings.HasPrefix(p.Table, ruleset.Legacy+" ") || strings.HasPrefix(p.Table, ruleset.Legacy6+" ")
	if old {
		list = strings.Replace(p.Table, " ", " -t ", 1) + " -nvL " + p.Chain + " --line-numbers"
	}
	who := owner(p)
	if who != "" {
		who = " (it is " + who + ")"
	}
	text := fmt.Sprintf("the rule is another program's%s; have it accept the packet there: %s", who, list)
	if p.Hook == "forward" && !old {
		text += "; or start tared with --firewall-integration, which accepts containers' packets there"
	}
	return text
}

// owner says whose a chain is, by the names that it gives.
func owner(p api.FilterPlace) string {
	name := p.Table + " " + p.Base + " " + p.Chain
	switch {
	case strings.Contains(name, "ufw"):
		return "ufw"
	case strings.Contains(name, "firewalld"):
		return "firewalld"
	case strings.Contains(name, "DOCKER"):
		return "Docker"
	case strings.HasSuffix(p.Table, " filter") && slices.Contains([]string{"INPUT", "FORWARD", "OUTPUT"}, p.Chain):
		return "of iptables: Docker and ufw set such a policy"
	}
	return ""
}

// together says how containers of a network come to reach each other.
const together = "tare network create without --opt com.docker.network.bridge.enable_icc=false; of the default network it is tared's --icc"

// ownAdvice explains our own rules.
func (w *way) ownAdvice(p api.FilterPlace) string {
	name, _ := strings.CutPrefix(p.Chain, "to-")
	n, to := w.networkOf(name)
	switch {
	case p.Chain == "tare-user" || p.Base != "" && !strings.HasPrefix(p.Chain, "to-") && !strings.HasPrefix(p.Chain, "from-"):
		return fmt.Sprintf("the rule is the administrator's: nft delete rule %s %s handle %d", p.Table, p.Chain, p.Handle)
	case p.Chain == "raw":
		return "127.0.0.0/8 is not reached from other machines: publish the port at an address of the host"
	case strings.HasPrefix(p.Chain, "from-") || to && n.Internal:
		return "the network is internal: connect the container to one that is not (tare network connect)"
	case to && w.from.ep != nil && w.from.ep.Network == n.Name:
		return fmt.Sprintf("containers of network %s do not reach each other: %s", n.Name, together)
	case to && w.from.ep != nil:
		return fmt.Sprintf("networks are kept apart: connect both containers to one network (tare network connect %s CONTAINER), or publish the port", n.Name)
	case to:
		return fmt.Sprintf("the port is not published: tare run -p %d:%d/%s", w.p.Dst.Port(), w.p.Dst.Port(), w.p.Proto)
	case p.Chain == "forward":
		return "the host was no router before tared turned forwarding on: what is no container's is not forwarded. Turn " + w.forwarding() + " on before tared starts"
	}
	return ""
}
