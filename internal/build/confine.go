package build

import (
	"context"

	bknetwork "github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/spec"
)

// confined gives the steps of a network's provider what the engine's containers have
// and BuildKit's have not. Where the network is set is the one place at which BuildKit
// shows the configuration of a step before it runs.
type confined struct{ bknetwork.Provider }

// New makes the namespace of one step.
func (p confined) New(ctx context.Context, hostname string, o bknetwork.NamespaceOptions) (bknetwork.Namespace, error) {
	ns, err := p.Provider.New(ctx, hostname, o)
	if err != nil {
		return nil, err
	}
	return confinedStep{ns}, nil
}

type confinedStep struct{ bknetwork.Namespace }

// Set completes a step's configuration.
func (n confinedStep) Set(s *specs.Spec) error {
	spec.Confine(s)
	return n.Namespace.Set(s)
}
