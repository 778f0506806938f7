package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/tare-engine/tare/internal/linux/hostport"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/nft"
	"github.com/tare-engine/tare/internal/linux/sock"
)

// Address is where containers find the server, on port 53.
var Address = netip.MustParseAddr("127.0.0.11")

// Port is that of DNS.
const Port = 53

// Sockets are where the server is asked in one namespace. They keep it alive.
type Sockets struct{ UDP, TCP *os.File }

// Files are the sockets as a list.
func (s Sockets) Files() []*os.File { return []*os.File{s.UDP, s.TCP} }

// Of is the place of one of them, by its protocol.
func (s *Sockets) Of(proto string) **os.File {
	if proto == "udp" {
		return &s.UDP
	}
	return &s.TCP
}

// Close closes both; one may be missing.
func (s Sockets) Close() error {
	var errs []error
	for _, f := range s.Files() {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Own tells a socket made by Listen from others, and its protocol.
func Own(f *os.File) (proto string, ok bool) {
	proto, addr, err := hostport.Of(f)
	return proto, err == nil && addr.Addr() == Address
}

// Listen makes sockets in a network namespace whose loopback is up, and has
// packets to Address, port 53, led to them. They have ports of their own, so that
// port 53 is free for a server of the container's.
func Listen(ns *os.File) (s Sockets, err error) {
	err = netns.Do(ns, func() error {
		var err error
		if s, err = Bind(netip.AddrPortFrom(Address, 0)); err != nil {
			return err
		}
		if err := s.redirect(); err != nil {
			return errors.Join(err, s.Close())
		}
		return nil
	})
	if err != nil {
		return Sockets{}, fmt.Errorf("name server of a container: %w", err)
	}
	return s, nil
}

// Bind makes sockets at an address of the calling thread's namespace; with port 0 each
// has one of its own.
func Bind(at netip.AddrPort) (s Sockets, err error) {
	if s.UDP, err = sock.Bind("udp", at); err != nil {
		return Sockets{}, err
	}
	if s.TCP, err = sock.Bind("tcp", at); err != nil {
		return Sockets{}, errors.Join(err, s.UDP.Close())
	}
	return s, nil
}

// table is that of the container's namespace.
const table = "tare-dns"

// redirect has the calling thread's namespace rewrite ports, both ways. It is done
// packet by packet, without connection tracking, which would cost every packet
// of the container.
func (s Sockets) redirect() error {
	var rules []nft.Rule
	for proto, f := range map[string]*os.File{"udp": s.UDP, "tcp": s.TCP} {
		at, err := sock.Own(f)
		if err != nil {
			return err
		}
		own := at.Port()
		host := netip.PrefixFrom(Address, 32)
		there, err := rewrite(nft.DstIn(host), nft.DstPort, proto, Port, own)
		if err != nil {
			return err
		}
		back, err := rewrite(nft.SrcIn(host), nft.SrcPort, proto, own, Port)
		if err != nil {
			return err
		}
		rules = append(rules, there, back)
	}
	return nft.Replace(&nft.Table{Name: table, Chains: []nft.Chain{{Name: "output", Hook: nft.Output, Priority: nft.PriorityRaw, Rules: rules}}})
}

func rewrite(match nft.Statement, p nft.Port, proto string, from, to uint16) (nft.Rule, error) {
	is, err := p.Is(proto, from)
	if err != nil {
		return nil, err
	}
	set, err := p.Set(proto, to)
	return nft.Rule{match, is, set}, err
}
