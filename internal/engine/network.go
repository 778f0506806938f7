package engine

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/event"
	own "github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/plugin"
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
	for _, kind := range f.Get("type") {
		if kind != "builtin" && kind != "custom" {
			return nil, errdefs.New(errdefs.InvalidArgument, "invalid filter: 'type'='%s'", kind)
		}
	}
	list := []network.Summary{}
	for _, n := range e.networks.List() {
		kind := "custom"
		if own.Predefined(n.Name) {
			kind = "builtin"
		}
		if f.Has("dangling") && dangling == (kind == "builtin" || e.networks.InUse(n.ID)) { // the predefined ones never are
			continue
		}
		if f.Prefix("id", n.ID) && f.Match("name", n.Name) && f.Exact("driver", n.Driver) && f.Exact("scope", n.Scope) &&
			f.Exact("type", kind) && (!f.Has("label") || f.KV("label", n.Labels)) {
			list = append(list, n)
		}
	}
	return list, nil
}

// NetworkInspect returns all that is known of a network, if it is of a scope; empty: of any.
func (e *Engine) NetworkInspect(_ context.Context, ref, scope string) (network.Inspect, error) {
	n, err := e.networks.Inspect(ref)
	if err == nil && scope != "" && scope != n.Scope {
		return network.Inspect{}, errdefs.New(errdefs.NotFound, "network %s not found", ref)
	}
	return n, err
}

// NetworkCreate makes a network.
func (e *Engine) NetworkCreate(_ context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	if err := spec.CheckText(&r); err != nil {
		return network.CreateResponse{}, err
	}
	id, err := e.networks.Create(r)
	if errdefs.Is(err, errdefs.NotFound) && slices.Contains(plugin.Docker().Names(), r.Driver) {
		err = errdefs.New(errdefs.NotImplemented, "network driver %s: network drivers of plugins are not offered: use bridge, macvlan or ipvlan, or start containers in a network namespace that it has made, with --network ns:PATH", r.Driver)
	}
	if err != nil {
		return network.CreateResponse{}, err
	}
	e.networkEvent(events.ActionCreate, id, r.Name, cmp.Or(r.Driver, "bridge"))
	return network.CreateResponse{ID: id}, nil
}

// NetworkRemove removes a network that no container is attached to.
func (e *Engine) NetworkRemove(_ context.Context, ref string) error {
	n, err := e.networks.Remove(ref)
	if err != nil {
		return err
	}
	e.networkEvent(events.ActionDestroy, n.ID, n.Name, n.Driver)
	return nil
}

// NetworkEvents tells listeners which containers are connected and disconnected.
func NetworkEvents(log *event.Log) func(n network.Network, containerID string, connected bool) {
	return func(n network.Network, containerID string, connected bool) {
		action := events.ActionDisconnect
		if connected {
			action = events.ActionConnect
		}
		log.Publish(events.NetworkEventType, action, n.ID, map[string]string{"container": containerID, "name": n.Name, "type": n.Driver})
	}
}

// NetworkConnect puts a container into a network.
func (e *Engine) NetworkConnect(ctx context.Context, ref string, r network.ConnectRequest) error {
	if err := spec.CheckText(&r); err != nil {
		return err
	}
	return e.containers.Connections().Connect(ctx, r.Container, ref, r.EndpointConfig)
}

// NetworkDisconnect takes a container out of a network.
func (e *Engine) NetworkDisconnect(_ context.Context, ref string, r network.DisconnectRequest) error {
	return e.containers.Connections().Disconnect(r.Container, ref)
}

// NetworkExplain says what becomes of a packet to a container, by one or to the host.
// A container that does not run has no place in a network: Conflict.
func (e *Engine) NetworkExplain(_ context.Context, o api.NetworkExplainOptions) (x api.NetworkExplanation, err error) {
	if o.From, err = e.placeOf(o.From); err != nil {
		return x, err
	}
	if o.To, err = e.placeOf(o.To); err != nil {
		return x, err
	}
	return e.networks.Explain(o, func(id string) int {
		v, err := e.containers.View(id)
		if err != nil {
			return 0
		}
		return v.Pid
	})
}

// placeOf is the ID of the container whose network a name means: its own, or the one
// that it has joined. Addresses and the word host stay as they are.
func (e *Engine) placeOf(ref string) (string, error) {
	if _, err := netip.ParseAddr(ref); err == nil || ref == "" || ref == "host" {
		return ref, nil
	}
	v, err := e.containers.View(ref)
	if err != nil {
		return "", err
	}
	if mode := v.HostConfig.NetworkMode; mode.IsContainer() {
		return e.placeOf(mode.ConnectedContainer())
	}
	if !v.Alive() {
		return "", errdefs.New(errdefs.Conflict, "container %s is not running", v.ID)
	}
	return v.ID, nil
}

func (e *Engine) networkEvent(action events.Action, id, name, driver string) {
	e.events.Publish(events.NetworkEventType, action, id, map[string]string{"name": name, "type": driver})
}

// NetworksPrune removes the networks that no container is attached to; the
// predefined ones always stay.
func (e *Engine) NetworksPrune(ctx context.Context, f api.Filters) (report network.PruneReport, err error) {
	match, err := pruneFilter(f, api.NetworkPruneFilters)
	if err != nil {
		return report, err
	}
	for _, n := range e.networks.List() {
		if own.Predefined(n.Name) || n.ConfigOnly || !match(n.Created, n.Labels) {
			continue
		}
		err := e.NetworkRemove(ctx, n.ID)
		switch {
		case err == nil:
			report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
		case !errdefs.Is(err, errdefs.Forbidden) && !errdefs.Is(err, errdefs.NotFound): // in use, or gone
			return report, err
		}
	}
	return report, nil
}
