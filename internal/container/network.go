package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	api "github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/proc"
	"github.com/tare-engine/tare/internal/network"
)

// Networking is what a running container has of networks. It is never changed
// once it is in a view.
type Networking struct {
	SandboxID  string
	SandboxKey string
	Endpoints  map[string]*api.EndpointSettings // by network
	Ports      api.PortMap                      // published
	Record     *network.Record                  `json:",omitempty"` // nil if it shares another container's
}

// attachment is a start's hold on the network.
type attachment struct {
	ep     *network.Endpoint // nil with container:ID
	shared *os.File          // namespace of another container
	files  *network.Files    // nil with container:ID, whose files are shared
	view   *Networking
}

// netns is the namespace that the process joins; nil is the host's.
func (a *attachment) netns() *os.File {
	if a.shared != nil {
		return a.shared
	}
	return a.ep.NetNS
}

// attachNetwork gives the container its place in a network, and publishes its
// ports.
func (l *launch) attachNetwork(ctx context.Context) error {
	v := l.view
	if v.HostConfig.NetworkMode.IsContainer() {
		return l.joinNetwork(v.HostConfig.NetworkMode.ConnectedContainer())
	}
	name := string(v.HostConfig.NetworkMode)
	req := network.Request{ContainerID: v.ID, Name: v.Name, Network: name, Later: v.IDs != nil}
	if v.Networking != nil && v.Networking.EndpointsConfig[name] != nil {
		asked := v.Networking.EndpointsConfig[name]
		req.MAC = []byte(asked.MacAddress)
		if asked.IPAMConfig != nil {
			req.IP = asked.IPAMConfig.IPv4Address
		}
	}
	var ep *network.Endpoint
	var err error
	if l.cell != nil {
		ep, err = l.networks.Bind(v.ID, v.Name)
	} else {
		ep, err = l.networks.Attach(ctx, req)
	}
	if err != nil {
		return fmt.Errorf("failed to set up container networking: %w", err)
	}
	l.net = &attachment{ep: ep}
	wanted, err := network.WantedPorts(v.HostConfig.PortBindings, v.Config.ExposedPorts, v.HostConfig.PublishAllPorts)
	if err != nil {
		return err
	}
	if _, err := l.networks.Publish(ctx, v.ID, wanted); err != nil {
		return err
	}
	files, err := l.networks.Files(ep, network.FileOptions{
		Hostname: l.hostname(), Domainname: v.Config.Domainname, ExtraHosts: v.HostConfig.ExtraHosts,
		DNS: addresses(v), DNSSearch: v.HostConfig.DNSSearch, DNSOptions: v.HostConfig.DNSOptions,
	})
	if err != nil {
		return err
	}
	l.net.files = &files
	l.net.view = networking(v, ep)
	return nil
}

// hostname is the container's, or the host's if it shares the namespace.
func (l *launch) hostname() string {
	if l.view.HostConfig.UTSMode.IsHost() || l.view.Config.Hostname == "" {
		if host, err := os.Hostname(); err == nil {
			return host
		}
	}
	return l.view.Config.Hostname
}

func addresses(v *View) []string {
	list := make([]string, len(v.HostConfig.DNS))
	for i, a := range v.HostConfig.DNS {
		list[i] = a.String()
	}
	return list
}

// joinNetwork takes the namespace of a running container.
func (l *launch) joinNetwork(ref string) error {
	other, err := l.index.Find(ref)
	if err != nil {
		return err
	}
	ov := other.View()
	if other.ID == l.view.ID || !ov.Alive() {
		return errdefs.New(errdefs.Conflict, "cannot join network namespace of a non running container: %s", ov.ID)
	}
	ns, err := proc.OpenNamespace("/proc/"+strconv.Itoa(ov.Pid)+"/ns/net", syscall.CLONE_NEWNET)
	if err != nil {
		return fmt.Errorf("join the network of container %s: %w", ov.ID, err)
	}
	l.net = &attachment{shared: ns, view: &Networking{Endpoints: map[string]*api.EndpointSettings{}, Ports: api.PortMap{}}}
	if ov.Network != nil {
		l.net.view.SandboxID, l.net.view.SandboxKey = ov.Network.SandboxID, ov.Network.SandboxKey
	}
	return nil
}

// networking is the picture of an endpoint in the API's terms.
func networking(v *View, ep *network.Endpoint) *Networking {
	es := ep.Settings()
	if v.Networking != nil && v.Networking.EndpointsConfig[ep.NetworkName] != nil {
		asked := v.Networking.EndpointsConfig[ep.NetworkName]
		es.IPAMConfig, es.Links, es.Aliases, es.DriverOpts = asked.IPAMConfig, asked.Links, asked.Aliases, asked.DriverOpts
	}
	rec := ep.Record
	return &Networking{
		SandboxID: ep.EndpointID, Endpoints: map[string]*api.EndpointSettings{ep.NetworkName: es},
		Ports: network.PortMap(ep.Ports, nil), Record: &rec,
	}
}

// writeFiles writes hosts, hostname and resolv.conf of the run. They need no
// sync: the next start writes them anew.
func (l *launch) writeFiles() error {
	if l.net.files == nil {
		return nil
	}
	for name, b := range map[string][]byte{"hosts": l.net.files.Hosts, "hostname": l.net.files.Hostname, "resolv.conf": l.net.files.Resolv} {
		if err := l.writeFile(l.records.file(l.view.ID, name), b); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file that becomes the container's: its root owns it.
func (l *launch) writeFile(path string, b []byte) error {
	if err := os.WriteFile(path, b, 0644); err != nil {
		return err
	}
	if ids := l.view.IDs; ids != nil {
		return os.Chown(path, int(ids.HostUID(0)), int(ids.HostGID(0)))
	}
	return nil
}

// filesOf is the container whose hosts, hostname and resolv.conf are used.
func (l *launch) filesOf() (string, error) {
	if l.net.files != nil {
		return l.view.ID, nil
	}
	other, err := l.index.Find(l.view.HostConfig.NetworkMode.ConnectedContainer())
	if err != nil {
		return "", err
	}
	return other.ID, nil
}

// started gives up the engine's descriptors of the namespace: the process
// keeps it from now on.
func (a *attachment) started() error {
	if a.shared != nil {
		return a.shared.Close()
	}
	return a.ep.CloseNetNS()
}

// release takes the place in the network back after a failed start.
func (l *launch) releaseNetwork(ctx context.Context) error {
	var err error
	if l.net != nil && l.net.shared != nil {
		err = l.net.shared.Close()
	}
	return errors.Join(err, l.networks.Release(ctx, l.view.ID))
}
