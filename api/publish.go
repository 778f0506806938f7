package api

import "github.com/moby/moby/api/types/network"

// PublishPath is the route that changes which ports of a container are published,
// also while it runs: POST with a PublishChange. Docker has none.
const PublishPath = "/tare/containers/publish"

// PublishChange says which ports are published and which are not any more. All of it
// happens, or nothing.
type PublishChange struct {
	Container string
	Add       network.PortMap `json:",omitempty"`
	// Remove are bindings that the container has. One without a port of the host
	// stands for all of its port; one without an address for any.
	Remove network.PortMap `json:",omitempty"`
}
