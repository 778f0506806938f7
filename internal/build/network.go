package build

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/pkg/oci"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	bknetwork "github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/network"
)

// bridged gives each step an endpoint of the default network, which shows nowhere.
type bridged struct{ networks *network.Service }

// New makes the namespace of one step.
func (p *bridged) New(ctx context.Context, _ string, _ bknetwork.NamespaceOptions) (bknetwork.Namespace, error) {
	id := ident.New()
	ep, err := p.networks.Reserve(ctx, network.Request{ContainerID: id, Network: "bridge"})
	if err != nil {
		return nil, fmt.Errorf("network of a build step: %w", err)
	}
	return &namespaceOf{p.networks, id, ep.NetNS}, nil
}

// Close has nothing to close: the networks are the engine's.
func (p *bridged) Close() error { return nil }

type namespaceOf struct {
	networks *network.Service
	id       string
	ns       *os.File
}

// Set puts the namespace into a step's configuration. The runtime, another program,
// opens it by our descriptor.
func (n *namespaceOf) Set(s *specs.Spec) error {
	if n.ns == nil {
		return errors.New("network of a build step: it has no namespace")
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.ns.Fd())
	return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path})(context.Background(), nil, nil, s)
}

// Close gives the endpoint back.
func (n *namespaceOf) Close() error { return n.networks.Release(context.Background(), n.id) }

// Sample tells nothing of traffic.
func (n *namespaceOf) Sample() (*resourcestypes.NetworkSample, error) { return nil, nil }
