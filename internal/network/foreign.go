package network

import (
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/bridge"
)

// Where the filter sees what stays on bridges (br_netfilter), the firewall has to know the
// bridges that are no engine's, to spare what is theirs.

// foreignCame tells the firewall of those of links that are bridges of somebody else's.
func (s *Service) foreignCame(links []netlink.Link) {
	for _, l := range links {
		if l.Kind != "bridge" || l.Group == bridge.Group {
			continue
		}
		if err := s.wall.AddBridge(l.Index); err != nil {
			s.log.Warn("what stays on a bridge of another program may be dropped", "link", l.Name, "err", err)
		}
	}
}

// foreignGone tells it that one of them may be gone: the link of that number is.
func (s *Service) foreignGone(index int) {
	if err := s.wall.RemoveBridge(index); err != nil {
		s.log.Warn("rules for a bridge of another program stay until the next start", "index", index, "err", err)
	}
}
