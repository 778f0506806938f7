package network

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/store"
)

// record is what is kept on disk of a network: DIR/ID.json.
type record struct {
	Version    int               `json:"version"`
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Created    time.Time         `json:"created"`
	Gateway    netip.Prefix      `json:"gateway,omitzero"` // with the subnet's length; none without IPv4
	Gateway6   netip.Prefix      `json:"gateway6,omitzero"`
	Subnet     netip.Prefix      `json:"subnet,omitzero"` // without a gateway
	Subnet6    netip.Prefix      `json:"subnet6,omitzero"`
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	Options    map[string]string `json:"options,omitempty"` // the driver's, as they were given
	Labels     map[string]string `json:"labels,omitempty"`
	// IPAM is what was asked for; a subnet that was not is Chosen.
	IPAM network.IPAM `json:"ipam,omitzero"`
	// Configuration is set of one that is a configuration for others, ConfigFrom the id
	// of what another was made from.
	Configuration *configuration `json:"configuration,omitempty"`
	ConfigFrom    string         `json:"configFrom,omitempty"`

	Chosen  bool `json:"chosen,omitempty"`
	Chosen6 bool `json:"chosen6,omitempty"`
}

const recordVersion = 1

// newRecord is the record of a network that is to be made, with an ID of its own.
func newRecord(r network.CreateRequest) record {
	rec := record{
		Version: recordVersion, ID: ident.New(), Name: r.Name, Driver: driverOf(r), Created: time.Now().UTC(),
		Internal: r.Internal, Attachable: r.Attachable, Options: r.Options, Labels: r.Labels,
	}
	if r.IPAM != nil {
		rec.IPAM = *r.IPAM
	}
	return rec
}

// read reads a record that this version of the engine knows.
func (r *record) read(file string) error {
	switch err := store.Get(file, r); {
	case err != nil:
		return err
	case r.Version != recordVersion:
		return fmt.Errorf("a record of version %d, known is %d", r.Version, recordVersion)
	case !ident.Valid(r.ID):
		return fmt.Errorf("a record with the invalid id %q", r.ID)
	}
	return nil
}
