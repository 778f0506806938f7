package engine

import (
	"context"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/tare-engine/tare/api"
)

// NetworkList returns the networks that match.
func (e *Engine) NetworkList(_ context.Context, f api.Filters) ([]network.Summary, error) {
	if err := validate(f, api.NetworkFilters); err != nil {
		return nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	list := []network.Summary{}
	for _, n := range e.networks.List() {
		if f.Has("dangling") && dangling { // the predefined networks never are
			continue
		}
		if f.Prefix("id", n.ID) && f.Match("name", n.Name) && f.Exact("driver", n.Driver) && f.Exact("scope", n.Scope) &&
			f.Exact("type", "builtin") && (!f.Has("label") || f.KV("label", n.Labels)) {
			list = append(list, n)
		}
	}
	return list, nil
}

// NetworkInspect returns all that is known of a network.
func (e *Engine) NetworkInspect(_ context.Context, ref string, _ bool) (network.Inspect, error) {
	return e.networks.Inspect(ref)
}

// NetworksPrune removes unused networks; the predefined ones always stay.
func (e *Engine) NetworksPrune(_ context.Context, f api.Filters) (network.PruneReport, error) {
	return network.PruneReport{}, validate(f, api.NetworkPruneFilters)
}

// VolumeList returns the volumes that match: there are none yet.
func (e *Engine) VolumeList(_ context.Context, f api.Filters) (volume.ListResponse, error) {
	return volume.ListResponse{}, validate(f, api.VolumeFilters)
}

// VolumesPrune removes unused volumes.
func (e *Engine) VolumesPrune(_ context.Context, f api.Filters) (volume.PruneReport, error) {
	return volume.PruneReport{}, validate(f, api.VolumePruneFilters)
}
