package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	api "github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netns"
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
	Records    []network.Record                 `json:",omitempty"` // none if it shares another container's
	FilesOf    string                           `json:",omitempty"` // container whose hosts, hostname and resolv.conf it has; empty: its own
}

// Bridged says that the container is reached by a bridge network, if by any: it is in one, and
// goes out by no other.
func (n *Networking) Bridged() (bridged bool) {
	for _, r := range n.Records {
		switch {
		case r.Link != "": // of the bridge
			bridged = true
		case r.Exit || r.Exit6:
			return false
		}
	}
	return bridged
}

// attachment is a start's hold on the network.
type attachment struct {
	list   []*network.Endpoint // none with container:ID and ns:PATH, and in no network
	shared *os.File            // namespace of another container, or of somebody else
	alone  *os.File            // that of a container in no network, unless its child makes it
	files  *network.Files      // nil with container:ID, whose files are shared
	view   *Networking
}

// netns is the namespace that the process joins; nil is the host's.
func (a *attachment) netns() *os.File {
	if a.shared != nil {
		return a.shared
	}
	if len(a.list) == 0 {
		return a.alone
	}
	return a.list[0].NetNS
}

// attachNetwork gives the container its places in networks, and publishes its
// ports.
func (l *launch) attachNetwork(ctx context.Context) error {
	v := l.view
	if v.HostConfig.NetworkMode.IsContainer() {
		return l.joinNetwork(v.HostConfig.NetworkMode.ConnectedContainer())
	}
	if path, ok := spec.NetworkPath(v.HostConfig.NetworkMode); ok {
		return l.enterPath(path)
	}
	if err := l.checkLinks(v); err != nil {
		return err
	}
	refs := networksOf(v.Record)
	if len(refs) == 0 {
		return l.isolate()
	}
	l.net = &attachment{}
	for n, ref := range refs {
		ep, err := l.attach(ctx, ref, n == 0)
		if err != nil {
			return fmt.Errorf("failed to set up container networking: %w", err)
		}
		l.net.list = append(l.net.list, ep)
	}
	if err := l.publishPorts(ctx, v); err != nil {
		return err
	}
	l.net.list = l.networks.Endpoints(v.ID) // as they are now: one may have become the way out
	files, err := l.networkFiles(v, l.net.list)
	if err != nil {
		return err
	}
	l.net.files = &files
	if ns := l.net.netns(); ns != nil {
		if err := l.networks.ServeNames(v.ID, addresses(v), ns); err != nil {
			return fmt.Errorf("failed to set up container networking: %w", err)
		}
	}
	l.net.view = networking(v.Record, l.net.list)
	return nil
}

// isolate gives a container that is in no network a namespace of its own. That of a
// mapped one its child makes.
func (l *launch) isolate() error {
	files, err := l.networkFiles(l.view, nil)
	if err != nil {
		return err
	}
	l.net = &attachment{files: &files, view: &Networking{SandboxID: ident.New(), Endpoints: map[string]*api.EndpointSettings{}, Ports: api.PortMap{}}}
	if l.view.IDs == nil {
		l.net.alone, err = l.networks.Isolated()
	}
	return err
}

// attach gives the container one place: the first with its namespace.
func (l *launch) attach(ctx context.Context, ref string, first bool) (*network.Endpoint, error) {
	req := networkRequest(l.view.Record, ref)
	req.Later = l.view.IDs != nil
	switch {
	case !first:
		return l.networks.Connect(ctx, req, l.net.list[0].NetNS)
	case l.cell != nil:
		return l.bind(ctx, req)
	}
	return l.networks.Attach(ctx, req)
}

// bind gives the container the place of its cell. If that is not what is asked for, or
// its network is not any more, the cell is given up with it.
func (l *launch) bind(ctx context.Context, req network.Request) (*network.Endpoint, error) {
	e, err := l.networks.Bind(req)
	if err == nil {
		return e, nil
	}
	slog.Debug("a cell does not fit", "container", l.view.ID, "why", err)
	if err := errors.Join(l.evictCell(ctx), l.networks.Release(ctx, l.view.ID)); err != nil {
		return nil, err
	}
	return l.networks.Attach(ctx, req)
}

// networksOf are the networks that a container is to be in, by name or ID, the
// one that its mode names first. One that was taken out of all is in none, as with Docker.
func networksOf(r *Record) []string {
	if r.Config.NetworkDisabled {
		return nil
	}
	main := mainNetwork(r)
	list := []string{main}
	if r.Networking == nil {
		return list
	}
	if _, ok := r.Networking.EndpointsConfig[main]; !ok { // it was disconnected from it
		list = nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.Networking.EndpointsConfig)) {
		if name != main {
			list = append(list, name)
		}
	}
	return list
}

func mainNetwork(r *Record) string {
	mode := spec.NetworkMode(r.Config, r.HostConfig)
	if mode.IsDefault() {
		return "bridge"
	}
	return string(mode)
}

// networkRequest asks for a container's place in a network, as it was asked for.
func networkRequest(r *Record, ref string) network.Request {
	req := network.Request{ContainerID: r.ID, Name: r.Name, Network: ref, Hostname: r.Config.Hostname, Limits: spec.OwnOf(r.HostConfig).Network}
	if ref == mainNetwork(r) && r.HostConfig.NetworkMode.IsUserDefined() {
		req.Links = r.HostConfig.Links
	}
	if r.Networking == nil || r.Networking.EndpointsConfig[ref] == nil {
		return req
	}
	asked := r.Networking.EndpointsConfig[ref]
	req.MAC, req.Priority, req.Aliases = []byte(asked.MacAddress), asked.GwPriority, asked.Aliases
	if len(asked.Links) > 0 {
		req.Links = asked.Links
	}
	req.IfaceName = asked.DriverOpts[spec.OptionInterfaceName]
	if list, ok := asked.DriverOpts[spec.OptionSysctls]; ok {
		req.Sysctls, _ = network.ParseSysctls(list) // it has been checked
	}
	if asked.IPAMConfig != nil {
		req.LinkLocal = asked.IPAMConfig.LinkLocalIPs
		req.IP, req.IP6 = asked.IPAMConfig.IPv4Address, asked.IPAMConfig.IPv6Address
	}
	return req
}

// publishPorts publishes the ports that were asked for, unless they are.
func (lr *launcher) publishPorts(ctx context.Context, v *View) error {
	wanted, err := network.WantedPorts(v.HostConfig.PortBindings, v.Config.ExposedPorts, v.HostConfig.PublishAllPorts)
	if err != nil {
		return err
	}
	_, err = lr.networks.Publish(ctx, v.ID, wanted)
	return err
}

// networkFiles are the files of a container with these endpoints.
func (lr *launcher) networkFiles(v *View, list []*network.Endpoint) (network.Files, error) {
	linked, err := lr.linked(v)
	if err != nil {
		return network.Files{}, err
	}
	return lr.networks.Files(list, network.FileOptions{
		Hostname: hostname(v), Domainname: v.Config.Domainname, ExtraHosts: v.HostConfig.ExtraHosts, Linked: linked,
		DNS: addresses(v), DNSSearch: v.HostConfig.DNSSearch, DNSOptions: v.HostConfig.DNSOptions,
	})
}

// hostname is the container's, or the host's if it shares the namespace.
func hostname(v *View) string {
	if v.HostConfig.UTSMode.IsHost() || v.Config.Hostname == "" {
		if host, err := os.Hostname(); err == nil {
			return host
		}
	}
	return v.Config.Hostname
}

func addresses(v *View) []string {
	list := make([]string, len(v.HostConfig.DNS))
	for i, a := range v.HostConfig.DNS {
		list[i] = a.String()
	}
	return list
}

// enterPath takes a network namespace that somebody else has made, and looks after.
func (l *launch) enterPath(path string) error {
	ns, err := proc.OpenNamespace(path, syscall.CLONE_NEWNET)
	if err != nil {
		return errdefs.New(errdefs.InvalidArgument, "network mode %s: %w", l.view.HostConfig.NetworkMode, err)
	}
	own, err := netns.Open()
	if err != nil {
		return errors.Join(err, ns.Close())
	}
	defer own.Close()
	if sameFile(ns, own) {
		return errors.Join(errdefs.New(errdefs.InvalidArgument, "network mode %s: this is the host's network namespace, whose name is host", l.view.HostConfig.NetworkMode), ns.Close())
	}
	files, err := l.networkFiles(l.view, nil)
	if err != nil {
		return errors.Join(err, ns.Close())
	}
	l.net = &attachment{
		shared: ns, files: &files,
		view: &Networking{SandboxKey: path, Endpoints: map[string]*api.EndpointSettings{}, Ports: api.PortMap{}},
	}
	return nil
}

func sameFile(a, b *os.File) bool {
	one, err := a.Stat()
	if err != nil {
		return false
	}
	two, err := b.Stat()
	return err == nil && os.SameFile(one, two)
}

// joinNetwork takes the namespace of a running container.
func (l *launch) joinNetwork(ref string) error {
	other, err := l.index.Find(ref)
	if err != nil {
		return err
	}
	ov := other.View()
	d := donor{"network", ov}
	if other.ID == l.view.ID || !ov.Alive() || ov.Pid == 0 {
		return d.notRunning()
	}
	l.donors = append(l.donors, d)
	ns, err := proc.OpenNamespace("/proc/"+strconv.Itoa(ov.Pid)+"/ns/net", syscall.CLONE_NEWNET)
	if err != nil {
		return fmt.Errorf("join the network of container %s: %w", ov.ID, err)
	}
	l.net = &attachment{shared: ns, view: &Networking{Endpoints: map[string]*api.EndpointSettings{}, Ports: api.PortMap{}, FilesOf: ov.ID}}
	if n := ov.Network; n != nil {
		l.net.view.SandboxID, l.net.view.SandboxKey, l.net.view.FilesOf = n.SandboxID, n.SandboxKey, cmp.Or(n.FilesOf, ov.ID)
	}
	return nil
}

// networking is the picture of endpoints in the API's terms.
func networking(r *Record, list []*network.Endpoint) *Networking {
	n := &Networking{SandboxID: list[0].EndpointID, Endpoints: map[string]*api.EndpointSettings{}, Ports: api.PortMap{}}
	for _, ep := range list {
		n.add(r, ep)
	}
	return n
}

// with is the picture of the same sandbox with other endpoints.
func (n *Networking) with(r *Record, list []*network.Endpoint) *Networking {
	now := &Networking{SandboxID: n.SandboxID, SandboxKey: n.SandboxKey, Endpoints: map[string]*api.EndpointSettings{}, Ports: api.PortMap{}}
	for _, ep := range list {
		now.add(r, ep)
	}
	return now
}

// add adds an endpoint to a picture that is in no view yet.
func (n *Networking) add(r *Record, ep *network.Endpoint) {
	es := ep.Settings()
	for _, ref := range []string{ep.NetworkName, ep.NetworkID, mainNetwork(r)} {
		if r.Networking == nil || r.Networking.EndpointsConfig[ref] == nil || ref != ep.NetworkName && !strings.HasPrefix(ep.NetworkID, ref) {
			continue
		}
		asked := r.Networking.EndpointsConfig[ref]
		es.IPAMConfig, es.Links, es.Aliases, es.DriverOpts, es.GwPriority = asked.IPAMConfig, asked.Links, asked.Aliases, asked.DriverOpts, asked.GwPriority
	}
	for port, bindings := range network.PortMap(ep.Ports, nil) { // of IPv4 and IPv6 they may be on two
		n.Ports[port] = append(n.Ports[port], bindings...)
	}
	n.Endpoints[ep.NetworkName] = es
	n.Records = append(n.Records, ep.Record)
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
	if _, err := l.index.Find(l.net.view.FilesOf); err != nil { // it may be gone while who has joined it runs
		return "", fmt.Errorf("the files of the joined network: %w", err)
	}
	return l.net.view.FilesOf, nil
}

// started gives up the engine's descriptors of the namespace: the process
// keeps it from now on.
func (a *attachment) started() error {
	errs := []error{a.close()}
	for _, ep := range a.list {
		errs = append(errs, ep.CloseNetNS())
	}
	return errors.Join(errs...)
}

// close gives up the namespace that is no endpoint's.
func (a *attachment) close() error {
	if ns := cmp.Or(a.shared, a.alone); ns != nil {
		return ns.Close()
	}
	return nil
}

// releaseNetwork takes the place in the network back after a failed start.
func (l *launch) releaseNetwork(ctx context.Context) error {
	var err error
	if l.net != nil {
		err = l.net.close()
	}
	return errors.Join(err, l.networks.Release(ctx, l.view.ID))
}
