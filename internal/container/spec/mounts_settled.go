package spec

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Mount is a mount of a container that is settled when the container is made, and
// stays so: a volume, whose name the engine may have made up, the files of an image,
// or what it has of another container. What else is mounted follows from the
// HostConfig.
type Mount struct {
	Type     mount.Type // mount.TypeVolume, mount.TypeImage, or mount.TypeBind of another container
	Target   string
	Mode     string `json:",omitempty"` // of -v, as inspect shows it
	ReadOnly bool   `json:",omitempty"`

	Name      string `json:",omitempty"` // of the volume; by which the image was asked for
	Driver    string `json:",omitempty"`
	Anonymous bool   `json:",omitempty"` // it goes with the container, if that is asked for
	NoCopy    bool   `json:",omitempty"` // it does not get what the image has at the target
	Subpath   string `json:",omitempty"` // the part of it that is mounted

	Image string        `json:",omitempty"` // its ID
	Chain digest.Digest `json:",omitempty"` // of the image's layers

	Source      string             `json:",omitempty"` // of a bind; of a volume where it is, not recorded
	Propagation mount.Propagation  `json:",omitempty"`
	Bind        *mount.BindOptions `json:",omitempty"`
}

// WantedVolume is a volume that a container asks for. One without a name is to be
// made up.
type WantedVolume struct {
	Mount
	Labels, Options map[string]string
	Configured      bool // by the container's configuration or its image
}

// WantedVolumes are the volumes that a container asks for: with -v, with --mount,
// and as its configuration with that of its image says, unless something else is
// mounted there; taken are the targets of what it has of other containers.
func WantedVolumes(c *container.Config, h *container.HostConfig, taken []Mount) ([]WantedVolume, error) {
	points, err := mountPoints(h, MountRules{})
	if err != nil {
		return nil, err
	}
	var list []WantedVolume
	targets := map[string]bool{}
	for _, m := range taken {
		targets[m.Target] = true
	}
	for _, m := range points {
		targets[m.target] = true
		if m.typ == mount.TypeVolume {
			list = append(list, m.volume)
		}
	}
	for _, v := range sortedKeysOf(c.Volumes) {
		target, err := cleanTarget(path.Join("/", v))
		if err != nil {
			return nil, errdefs.New(errdefs.InvalidArgument, "invalid volume specification: '%s': invalid mount config for type %q: %w", shown(v), mount.TypeVolume, err)
		}
		if targets[target] {
			continue
		}
		targets[target] = true
		if err := checkProc(target); err != nil {
			return nil, err
		}
		list = append(list, WantedVolume{Mount: Mount{Type: mount.TypeVolume, Target: target, Driver: h.VolumeDriver, Anonymous: true}, Configured: true})
	}
	if len(taken)+len(points)+len(list) > maxMounts {
		return nil, errdefs.New(errdefs.InvalidArgument, "more than %d mounts", maxMounts)
	}
	return list, nil
}

// Donor is a value of --volumes-from.
type Donor struct {
	Container string
	ReadOnly  bool
}

// Donors reads the values of --volumes-from: CONTAINER[:MODE].
func Donors(h *container.HostConfig) ([]Donor, error) {
	var list []Donor
	for _, s := range h.VolumesFrom {
		name, mode, moded := strings.Cut(s, ":")
		if name == "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "volumes-from specification cannot be an empty string")
		}
		d := Donor{Container: name}
		if moded {
			m, ok := parseMode(mode)
			if !ok || m.propagation != "" || m.noCopy {
				return nil, errdefs.New(errdefs.InvalidArgument, "invalid mode: %s", shown(mode))
			}
			d.ReadOnly = m.readOnly
		}
		list = append(list, d)
	}
	return list, nil
}

// Inherited is what a container gets of another: its volumes and binds, read-only if
// that is asked for. h are the requests of the one that gets it, which go before.
func Inherited(d Donor, donor *container.HostConfig, rules MountRules, h *container.HostConfig) ([]Mount, error) {
	own, err := mountPoints(h, MountRules{})
	if err != nil {
		return nil, err
	}
	points, err := mountPoints(donor, rules)
	if err != nil {
		return nil, err
	}
	var list []Mount
	for _, p := range points {
		if slices.ContainsFunc(own, func(m mountPoint) bool { return m.target == p.target }) {
			continue
		}
		m := p.volume.Mount
		switch p.typ {
		case mount.TypeVolume, mount.TypeImage:
			m.Source, m.NoCopy = "", true
		case mount.TypeBind:
			m = Mount{Type: p.typ, Target: p.target, Source: p.source, Propagation: p.propagation, Bind: &p.bind, ReadOnly: p.readOnly}
			if p.mayLack {
				m.Propagation = ""
			}
		default:
			continue
		}
		m.Mode, m.ReadOnly = "", m.ReadOnly || d.ReadOnly
		list = append(list, m)
	}
	return list, nil
}

// settled puts mounts that have been settled in the place of the requests for them.
func settled(list []mountPoint, mounts []Mount) []mountPoint {
	list = slices.DeleteFunc(list, func(m mountPoint) bool { return m.typ == mount.TypeVolume || m.typ == mount.TypeImage })
	for _, m := range mounts {
		p := mountPoint{typ: m.Type, source: m.Source, target: m.Target, mode: m.Mode, readOnly: m.ReadOnly, propagation: m.Propagation}
		if m.Type == mount.TypeBind {
			p.makeSource = true
		}
		if m.Bind != nil {
			p.bind = *m.Bind
		}
		if m.Type != mount.TypeBind {
			p.volume.Mount = m
		}
		list = append(list, p)
	}
	return list
}

// volumeOf reads the options of --mount type=volume.
func (m *mountPoint) volumeOf(s mount.Mount) error {
	v := &m.volume
	v.Type, v.Target, v.ReadOnly, v.Name, v.Anonymous = mount.TypeVolume, m.target, m.readOnly, s.Source, s.Source == ""
	if o := s.VolumeOptions; o != nil {
		if err := checkSubpath(o.Subpath); err != nil {
			return err
		}
		v.NoCopy, v.Subpath, v.Labels = o.NoCopy, o.Subpath, maps.Clone(o.Labels)
		if d := o.DriverConfig; d != nil {
			v.Driver, v.Options = d.Name, maps.Clone(d.Options)
		}
	}
	if v.Subpath != "" && v.Anonymous {
		return errdefs.New(errdefs.InvalidArgument, "must not set Subpath when using anonymous volumes")
	}
	return nil
}

// imageOf reads the options of --mount type=image.
func (m *mountPoint) imageOf(s mount.Mount) error {
	if s.Source == "" {
		return errors.New("field Source must not be empty")
	}
	m.readOnly = true
	m.volume.Mount = Mount{Type: mount.TypeImage, Target: m.target, ReadOnly: true, Name: s.Source}
	if s.ImageOptions == nil {
		return nil
	}
	m.volume.Subpath = s.ImageOptions.Subpath
	return checkSubpath(m.volume.Subpath)
}

// WantedImages are the images whose files a container asks for.
func WantedImages(h *container.HostConfig) ([]Mount, error) {
	if !slices.ContainsFunc(h.Mounts, func(m mount.Mount) bool { return m.Type == mount.TypeImage }) {
		return nil, nil
	}
	points, err := mountPoints(h, MountRules{})
	var list []Mount
	for _, m := range points {
		if m.typ == mount.TypeImage {
			list = append(list, m.volume.Mount)
		}
	}
	return list, err
}

// checkSubpath refuses what does not lie in a volume or image, as far as the text
// says.
func checkSubpath(p string) error {
	if path.IsAbs(p) || p == ".." || strings.HasPrefix(path.Clean(p), "../") {
		return errdefs.New(errdefs.InvalidArgument, "subpath must be a relative path within the volume")
	}
	return nil
}
