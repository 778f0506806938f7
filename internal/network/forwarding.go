package network

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tare-engine/tare/internal/linux/host"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/store"
)

// forwardingRecord remembers over restarts that forwarding was off before the
// engine turned it on; a reboot ends that.
type forwardingRecord struct {
	Boot string `json:"boot"`
}

// forwardingFile is the record's.
func (s *Service) forwardingFile(f family) string {
	return filepath.Join(s.cfg.Dir, of(f, "forwarding", "forwarding6"))
}

// forwardingOf is the parameter that makes the host a router.
func forwardingOf(f family) string {
	return of(f, "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
}

// forwarding turns forwarding between links on, of IPv6 if a network has it. If it was
// off, the host was no router, and does not become one: the firewall then drops what
// is no container's.
func (s *Service) forwarding() error {
	boot, err := host.BootID()
	if err != nil {
		return err
	}
	s.guarded = map[family]bool{}
	for _, f := range families {
		var r forwardingRecord
		path := s.forwardingFile(f)
		if err := store.Get(path, &r); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Warn("record cannot be read", "file", path, "err", err)
		}
		if r.Boot == boot {
			s.guarded[f] = true
		}
	}
	used6 := slices.ContainsFunc(s.all(), func(n *Network) bool { return n.link != nil && n.rec.Gateway6.IsValid() })
	err = s.forward(v4)
	if used6 {
		err = errors.Join(err, s.forward(v6))
	}
	return err
}

// forward turns forwarding of a family on. The firewall knows before that what is not
// to be forwarded, and the record is on disk.
func (s *Service) forward(f family) error {
	have, err := sysctl.Read(forwardingOf(f))
	if err != nil || have != "0" {
		return err
	}
	boot, err := host.BootID()
	if err != nil {
		return err
	}
	if err := store.New().Put(s.forwardingFile(f), forwardingRecord{boot}); err != nil {
		return err
	}
	s.guarded[f] = true
	if err := s.wall.Guard(f); err != nil {
		return err
	}
	if f == v6 {
		if err := s.keepRouters(); err != nil {
			return err
		}
	}
	return sysctl.Write(forwardingOf(f), "1")
}

// keepRouters has the host's links go on to believe the advertisements of routers, by
// which it may have its own addresses and way out: a router does so only if it is told
// to. Links of engines believe none.
func (s *Service) keepRouters() error {
	links, err := s.host.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if strings.HasPrefix(l.Alias, bridge.Alias) {
			continue
		}
		name := "net/ipv6/conf/" + l.Name + "/accept_ra"
		if v, err := sysctl.Read(name); err != nil || v != "1" { // or the link is gone
			continue
		}
		if err := sysctl.Write(name, "2"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
