package container

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	api "github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/network/etc"
)

// On the default network names are not asked for: a link (--link NAME:ALIAS) is a line
// of /etc/hosts, which follows the other container's address.

// links are who is linked to whom, of containers that run or have.
type links struct {
	mu sync.Mutex
	by map[string][]string // linked to → by
}

func newLinks() *links { return &links{by: map[string][]string{}} }

func (l *links) add(to, by string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.by[to], by) {
		l.by[to] = append(slices.Clone(l.by[to]), by)
	}
}

// drop forgets a container that is gone.
func (l *links) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.by, id)
	for to, list := range l.by {
		if slices.Contains(list, id) {
			l.by[to] = slices.DeleteFunc(slices.Clone(list), func(by string) bool { return by == id })
		}
	}
}

func (l *links) of(to string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[to]
}

// linked are the lines for the containers that one on the default network is linked to,
// whose ports it may reach from then on. Those that do not run have none.
func (lr *launcher) linked(v *View) (hosts []etc.Host, err error) {
	for _, link := range defaultLinks(v.Record) {
		target, alias := network.SplitLink(link)
		other, err := lr.index.Find(target)
		if err != nil {
			return nil, noTarget(target, err)
		}
		lr.links.add(other.ID, v.ID)
		ov := other.View()
		names := []string{alias, ov.Config.Hostname}
		if alias != ov.Name {
			names = append(names, ov.Name)
		}
		if ip := lr.defaultAddress(other.ID); ip.IsValid() {
			hosts = append(hosts, etc.Host{Name: strings.Join(names, " "), IP: ip})
		}
	}
	return hosts, lr.networks.SetLinks(v.ID, linkedPorts(lr.index, v.Record))
}

// linkedPorts are the ports that a container may reach by its links: those that the other
// exposes.
func linkedPorts(ix *index.Index[*Container], r *Record) map[string][]network.Port {
	to := map[string][]network.Port{}
	for _, link := range defaultLinks(r) {
		target, _ := network.SplitLink(link)
		other, err := ix.Find(target)
		if err != nil {
			continue // it is gone
		}
		v := other.View()
		exposed := maps.Clone(v.Config.ExposedPorts)
		if exposed == nil {
			exposed = api.PortSet{}
		}
		for port := range v.HostConfig.PortBindings {
			exposed[port] = struct{}{}
		}
		for port := range exposed {
			to[other.ID] = append(to[other.ID], network.Port{Proto: string(port.Proto()), Container: port.Num()})
		}
	}
	return to
}

// RemoveLink takes a link away, by its name PARENT/ALIAS: the parent's program finds no
// such host any more. It is the parent's that runs, too.
func (cs *Connections) RemoveLink(name string) error {
	name = strings.Trim(name, "/")
	at := strings.LastIndexByte(name, '/')
	if at < 0 {
		if _, err := cs.index.Find(name); err != nil {
			return err
		}
		return errdefs.New(errdefs.Conflict, "Conflict, cannot remove the default link name of the container")
	}
	parent, alias := name[:at], name[at+1:]
	none := errdefs.New(errdefs.NotFound, "No such container: %s", name)
	if _, err := cs.index.Find(parent); err != nil {
		return none
	}
	return cs.with(parent, func(c *Container, v *View) error {
		links := defaultLinks(v.Record)
		rest := slices.DeleteFunc(slices.Clone(links), func(l string) bool { _, a := network.SplitLink(l); return a == alias })
		if len(rest) == len(links) {
			return none
		}
		host := *v.HostConfig
		host.Links = rest
		if err := cs.keep(c, withRecord(v.Record, func(r *Record) { r.HostConfig = &host })); err != nil {
			return err
		}
		if c.runs() {
			return cs.rewriteHosts(c.View())
		}
		return nil
	})
}

// linkTo returns what a container's links name with an alias: a name or an ID.
func linkTo(c *Container, alias string) string {
	for _, link := range defaultLinks(c.View().Record) {
		if target, a := network.SplitLink(link); a == alias {
			return target
		}
	}
	return ""
}

// LinkNames are the names that links give containers, PARENT/ALIAS, by the container's ID.
func (s *Service) LinkNames() map[string][]string {
	names := map[string][]string{}
	for _, v := range s.List() {
		for _, link := range defaultLinks(v.Record) {
			target, alias := network.SplitLink(link)
			if other, err := s.index.Find(target); err == nil {
				names[other.ID] = append(names[other.ID], v.Name+"/"+alias)
			}
		}
	}
	return names
}

// noTarget is Docker's error of a link to nothing. It is no NotFound: clients would take
// that for the image's.
func noTarget(target string, err error) error {
	return errdefs.New(errdefs.InvalidArgument, "could not get container for %s: %w", target, err)
}

// resumeNames goes on to answer the name queries of a container that an earlier engine
// started, and to tell it the addresses of what it is linked to.
func (lr *launcher) resumeNames(v *View) error {
	for _, link := range defaultLinks(v.Record) {
		target, _ := network.SplitLink(link)
		if other, err := lr.index.Find(target); err == nil {
			lr.links.add(other.ID, v.ID)
		}
	}
	if err := lr.networks.SetLinks(v.ID, linkedPorts(lr.index, v.Record)); err != nil {
		return err
	}
	ns, err := netns.OfProcess(v.Pid)
	if err != nil {
		return err
	}
	return errors.Join(lr.networks.ServeNames(v.ID, addresses(v), ns), ns.Close())
}

// defaultLinks are the links that a container has on the default network.
func defaultLinks(r *Record) []string {
	if mode := r.HostConfig.NetworkMode; mode != "" && !mode.IsDefault() && !mode.IsBridge() {
		return nil
	}
	return r.HostConfig.Links
}

// defaultAddress is a running container's on the default network; zero if none.
func (lr *launcher) defaultAddress(id string) netip.Addr {
	for _, e := range lr.networks.Endpoints(id) {
		if e.NetworkName == "bridge" {
			return e.IP.Addr()
		}
	}
	return netip.Addr{}
}

// checkLinks refuses the start of a container that is linked to one that does not run.
func (lr *launcher) checkLinks(v *View) error {
	for _, link := range defaultLinks(v.Record) {
		target, alias := network.SplitLink(link)
		other, err := lr.index.Find(target)
		if err != nil {
			return noTarget(target, err)
		}
		if ov := other.View(); !ov.Alive() || !lr.defaultAddress(other.ID).IsValid() {
			return errdefs.New(errdefs.Conflict, "Cannot link to a non running container: /%s AS /%s/%s", ov.Name, v.Name, alias)
		}
	}
	return nil
}

// relink writes the files of the containers that are linked to one that has started.
// It takes their locks: nobody who holds one calls it.
func (lr *launcher) relink(id string) error {
	var errs []error
	for _, by := range lr.links.of(id) {
		c := lr.index.Get(by)
		if c == nil {
			continue
		}
		c.mu.Lock()
		if v := c.View(); c.runs() && len(defaultLinks(v.Record)) > 0 {
			errs = append(errs, lr.rewriteHosts(v))
		}
		c.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (lr *launcher) rewriteHosts(v *View) error {
	files, err := lr.networkFiles(v, lr.networks.Endpoints(v.ID))
	if err != nil {
		return err
	}
	return os.WriteFile(lr.records.file(v.ID, "hosts"), files.Hosts, 0644)
}

// checkNewLinks refuses links of a new container that cannot be.
func (cr *creations) checkNewLinks(h *container.HostConfig) error {
	for _, link := range h.Links {
		if link == "" || strings.Count(link, ":") > 1 {
			return errdefs.New(errdefs.InvalidArgument, "bad format for links: %s", link)
		}
		target, alias := network.SplitLink(link)
		if strings.ContainsFunc(alias, func(r rune) bool { return r <= ' ' || r >= 0x7f }) { // it becomes a word of /etc/hosts
			return errdefs.New(errdefs.InvalidArgument, "invalid alias %q in links: %q", alias, link)
		}
		if _, err := cr.index.Find(target); err != nil {
			return noTarget(target, err)
		}
	}
	return spec.ValidateLinks(h)
}
