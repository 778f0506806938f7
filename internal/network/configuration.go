package network

import (
	"fmt"
	"maps"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// A configuration is a network that nothing is attached to: others take from it what
// is said of addresses and of the driver (network create --config-only, --config-from).

// createConfiguration makes one.
//
// Preconditions: s.making is held.
func (s *Service) createConfiguration(r network.CreateRequest) (string, error) {
	if r.Internal || r.Attachable || r.Ingress || r.Scope != "" {
		return "", errdefs.New(errdefs.Forbidden,
			"configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.")
	}
	if r.IPAM != nil {
		for _, c := range r.IPAM.Config {
			if err := checkIPAM(c); err != nil {
				return "", err
			}
		}
	}
	rec := newRecord(r)
	rec.Driver, rec.Configuration = "null", &configuration{EnableIPv4: r.EnableIPv4, EnableIPv6: r.EnableIPv6}
	if err := s.putRecord(rec); err != nil {
		return "", err
	}
	s.set(append(slices.Clone(s.all()), &Network{rec: rec}))
	return rec.ID, nil
}

// configuration is what is kept of one beside what all records have.
type configuration struct {
	EnableIPv4 *bool `json:"enableIPv4,omitempty"`
	EnableIPv6 *bool `json:"enableIPv6,omitempty"`
}

// configured is a request with what it takes from a configuration, and that one's id;
// "" if it names none.
//
// Preconditions: ns.making is held.
func (ns *networks) configured(r network.CreateRequest) (_ network.CreateRequest, id string, err error) {
	from := sourceOf(r)
	if from == "" {
		return r, "", nil
	}
	if r.IPAM != nil && (len(r.IPAM.Config) > 0 || len(r.IPAM.Options) > 0) || len(r.Options) > 0 || r.EnableIPv4 != nil && !*r.EnableIPv4 || r.EnableIPv6 != nil && *r.EnableIPv6 {
		return r, "", errdefs.New(errdefs.Forbidden, "user specified configurations are not supported if the network depends on a configuration network")
	}
	n, err := ns.find(from)
	if err != nil {
		return r, "", err
	}
	if n.rec.Configuration == nil {
		return r, "", errdefs.New(errdefs.Forbidden, "network %s is no configuration: it was not made with --config-only", n.rec.Name)
	}
	ipam := n.rec.IPAM
	r.IPAM, r.Options = &ipam, maps.Clone(n.rec.Options)
	r.EnableIPv4, r.EnableIPv6 = n.rec.Configuration.EnableIPv4, n.rec.Configuration.EnableIPv6
	labels := maps.Clone(n.rec.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, r.Labels)
	r.Labels = labels
	return r, n.rec.ID, nil
}

// withDefaults is a request with the engine's options for networks of its driver, as far
// as it does not name them. One that takes a configuration has that one's.
func (c Config) withDefaults(r network.CreateRequest) network.CreateRequest {
	defaults := c.Options[driverOf(r)]
	if len(defaults) == 0 || sourceOf(r) != "" {
		return r
	}
	all := maps.Clone(defaults)
	maps.Copy(all, r.Options)
	r.Options = all
	return r
}

// checkOptions refuses options that no network could be made with.
func (c Config) checkOptions() error {
	for driver, options := range c.Options {
		if driver != "bridge" && !onParent(driver) {
			return fmt.Errorf("options for networks of the driver %q, which there is not", driver)
		}
		set, err := settingsOf(&record{ID: ident.New(), Driver: driver, Options: options})
		if err == nil {
			err = set.check(true, false)
		}
		if err != nil {
			return fmt.Errorf("options for networks of the driver %s: %w", driver, err)
		}
	}
	return nil
}

// sourceOf is the configuration that a request names; "" if none.
func sourceOf(r network.CreateRequest) string {
	if r.ConfigFrom == nil {
		return ""
	}
	return r.ConfigFrom.Network
}

// usedBy returns a network that was made from a configuration; nil if there is none.
func (ns *networks) usedBy(n *Network) *Network {
	for _, other := range ns.all() {
		if n.rec.Configuration != nil && other.rec.ConfigFrom == n.rec.ID {
			return other
		}
	}
	return nil
}
