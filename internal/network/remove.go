package network

import (
	"errors"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
)

// Remove removes a network that no container is attached to, and returns what it
// was. The record goes first: a kill afterwards leaves a link, which Adopt removes.
func (s *Service) Remove(ref string) (network.Network, error) {
	s.making.Lock()
	defer s.making.Unlock()
	n, err := s.find(ref)
	if err != nil {
		return network.Network{}, err
	}
	if n.predefined() {
		return network.Network{}, errdefs.New(errdefs.Forbidden, "%s is a pre-defined network and cannot be removed", n.rec.Name)
	}
	if other := s.usedBy(n); other != nil {
		return network.Network{}, errdefs.New(errdefs.Forbidden, "configuration network %q is in use by network %s", n.rec.Name, other.rec.Name)
	}
	was := s.describe(n)
	if err := s.close(n); err != nil {
		return was, err
	}
	if s.evict != nil {
		s.evict(n.rec.ID)
	}
	if err := s.deleteRecord(n.rec.ID); err != nil {
		s.reopen(n)
		return was, err
	}
	failpoint.Hit("network/unrecorded")
	all := slices.DeleteFunc(slices.Clone(s.all()), func(other *Network) bool { return other == n })
	s.set(all)
	if n.link != nil {
		err = s.wall.RemoveNetwork(n.link.Name)
	}
	if err := errors.Join(err, s.takeDown(n)); err != nil {
		s.log.Error("what was left of a removed network stays until the next start", "network", n.rec.Name, "err", err)
	}
	return was, nil
}
