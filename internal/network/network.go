package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/firewall"
	"github.com/tare-engine/tare/internal/network/ipam"
	"github.com/tare-engine/tare/internal/store"
)

// Network is one network. Its record does not change while the engine runs.
type Network struct {
	rec  record
	link *bridge.Link // nil for host and none, and if the default network is off
	pool *ipam.Pool   // of link's subnet
}

// record is what is kept on disk of a network: DIR/ID.json.
type record struct {
	Version int          `json:"version"`
	ID      string       `json:"id"`
	Name    string       `json:"name"`
	Driver  string       `json:"driver"`
	Created time.Time    `json:"created"`
	Gateway netip.Prefix `json:"gateway,omitzero"` // the link's address, with the subnet's length
}

const recordVersion = 1

// predefined is the networks that are always there, with their drivers.
var predefined = [...]struct{ name, driver string }{{"bridge", "bridge"}, {"host", "host"}, {"none", "null"}}

// openNetworks reads the records of the predefined networks, makes those that
// are missing, and brings up the default network's link.
func (s *Service) openNetworks() error {
	if err := os.MkdirAll(s.cfg.Dir, 0700); err != nil {
		return err
	}
	have, err := s.readRecords()
	if err != nil {
		return err
	}
	for _, p := range predefined {
		rec, ok := have[p.name]
		if !ok {
			rec = record{Version: recordVersion, ID: ident.New(), Name: p.name, Driver: p.driver, Created: time.Now().UTC()}
		}
		n := &Network{rec: rec}
		if p.name == "bridge" && s.cfg.Link != "none" {
			if err := s.openBridge(n); err != nil {
				return err
			}
		}
		if !ok || n.rec != rec {
			if err := s.putRecord(n); err != nil {
				return err
			}
		}
		s.networks = append(s.networks, n)
	}
	return nil
}

// readRecords returns the records on disk by name. A damaged one is set aside:
// the network then gets a new id, which nothing else refers to on disk.
func (s *Service) readRecords() (map[string]record, error) {
	files, err := filepath.Glob(filepath.Join(s.cfg.Dir, "*.json"))
	if err != nil {
		return nil, err
	}
	have := map[string]record{}
	for _, f := range files {
		var r record
		if err := store.Get(f, &r); err != nil || !ident.Valid(r.ID) || r.Version != recordVersion {
			aside, e := store.SetAside(f)
			if e != nil {
				return nil, errors.Join(err, e)
			}
			s.log.Warn("network record set aside", "file", aside, "err", err)
			continue
		}
		have[r.Name] = r
	}
	return have, nil
}

// openBridge settles the network's address and makes its link.
func (s *Service) openBridge(n *Network) error {
	gateway, err := s.gateway(n.rec.Gateway)
	if err != nil {
		return err
	}
	n.rec.Gateway = gateway
	n.link, err = bridge.Ensure(s.host, bridge.Options{
		Name: s.cfg.Link, Alias: s.cfg.alias(), Gateway: gateway, MTU: s.cfg.MTU, NoICC: s.cfg.NoICC,
	})
	if err != nil {
		return err
	}
	n.pool = ipam.New(gateway)
	return n.pool.Claim(gateway.Addr())
}

func (s *Service) putRecord(n *Network) error {
	return store.New().Put(filepath.Join(s.cfg.Dir, n.rec.ID+".json"), n.rec)
}

// gateway returns the address of the default network's link: the configured
// one, the one of last time if it is still
// free, or a new one.
func (s *Service) gateway(last netip.Prefix) (netip.Prefix, error) {
	if s.cfg.BIP.IsValid() {
		if !s.cfg.BIP.Addr().Is4() || s.cfg.BIP.Bits() > 30 {
			return netip.Prefix{}, fmt.Errorf("bip %s is not an IPv4 address with room for containers", s.cfg.BIP)
		}
		return s.cfg.BIP, nil
	}
	link, _, err := s.host.LinkByName(s.cfg.Link)
	if err != nil {
		return netip.Prefix{}, err
	}
	inUse, err := subnetsInUse(s.host, link.Index)
	if err != nil {
		return netip.Prefix{}, err
	}
	if last.IsValid() && !ipam.Overlaps(last.Masked(), inUse) {
		return last, nil
	}
	subnet, err := ipam.Choose(ipam.DefaultRanges(), inUse)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(ipam.First(subnet), subnet.Bits()), nil
}

// subnetsInUse lists the destinations of the host's routes over other links
// than our own.
func subnetsInUse(c *netlink.Conn, own int) ([]netip.Prefix, error) {
	routes, err := c.Routes(4)
	if err != nil {
		return nil, err
	}
	var inUse []netip.Prefix
	for _, r := range routes {
		if own == 0 || r.Index != own {
			inUse = append(inUse, r.Dst)
		}
	}
	return inUse, nil
}

// rules is what the firewall is to know of the networks.
func (s *Service) rules() []firewall.Network {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []firewall.Network
	for _, n := range s.networks {
		if n.link == nil {
			continue
		}
		f := firewall.Network{Name: n.link.Name, Link: n.link.Name, Subnet: n.link.Gateway.Masked(), ICC: !s.cfg.NoICC}
		for _, e := range s.endpoints {
			if e.network == n && e.Routed {
				f.Beside = append(f.Beside, e.Link)
			}
		}
		all = append(all, f)
	}
	return all
}
