package opts

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"
)

// Mounts is the --mount flag: comma-separated fields, quoted as in CSV.
//
//	type=bind,src=/data,dst=/data,readonly
//	type=tmpfs,dst=/cache,tmpfs-size=64m
//	type=volume,src=db,dst=/var/lib/db,volume-nocopy
//	type=bind,src=/data,dst=/data,owner=1000:1000
type Mounts struct {
	Values []mount.Mount
	Owners []string // values of the option bind-owner: TARGET=UID[:GID]
}

// String is empty: help shows no default.
func (m *Mounts) String() string { return "" }

// Type is what help calls the value.
func (m *Mounts) Type() string { return "mount" }

// Set adds a mount.
func (m *Mounts) Set(s string) error {
	p, err := parseMount(s)
	if err != nil {
		return err
	}
	m.Values = append(m.Values, p.m)
	if p.owner != "" {
		m.Owners = append(m.Owners, p.m.Target+"="+p.owner)
	}
	return nil
}

// parseMount reads one value of --mount.
func parseMount(s string) (*mountParser, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, errors.New("value is empty")
	}
	fields, err := csvFields(s)
	if err != nil {
		return nil, err
	}
	p := &mountParser{m: mount.Mount{Type: mount.TypeVolume}}
	for _, field := range fields {
		key, value, hasValue := strings.Cut(field, "=")
		key = strings.ToLower(key)
		if !hasValue && !mountSwitches[key] {
			return nil, fmt.Errorf("invalid field '%s' must be a key=value pair", field)
		}
		if err := p.field(key, value, hasValue, s); err != nil {
			return nil, err
		}
	}
	return p, p.check()
}

// mountSwitches are the fields that may stand without a value.
var mountSwitches = map[string]bool{
	"readonly": true, "ro": true, "volume-nocopy": true, "bind-nonrecursive": true, "bind-create-src": true,
}

// mountParser collects fields; those of one type of mount are kept apart so
// that check can tell who mixes them.
type mountParser struct {
	m         mount.Mount
	recursive string
	owner     string
}

func (p *mountParser) field(key, value string, hasValue bool, all string) (err error) {
	switch key {
	case "type":
		p.m.Type = mount.Type(strings.ToLower(value))
	case "source", "src":
		p.m.Source = value
		if value == "." || strings.HasPrefix(value, "./") || value == ".." || strings.HasPrefix(value, "../") {
			p.m.Source, err = filepath.Abs(value)
		}
	case "target", "dst", "destination":
		p.m.Target = value
	case "readonly", "ro":
		p.m.ReadOnly, err = boolean(key, value, hasValue)
	case "consistency":
		p.m.Consistency = mount.Consistency(strings.ToLower(value))
	default:
		return p.typed(key, value, hasValue, all)
	}
	return err
}

// typed takes the fields that go with one type of mount.
func (p *mountParser) typed(key, value string, hasValue bool, all string) (err error) {
	switch key {
	case "owner":
		if p.owner = value; value == "" {
			return invalidValue(key, value)
		}
	case "bind-propagation":
		p.bind().Propagation = mount.Propagation(strings.ToLower(value))
	case "bind-nonrecursive":
		p.bind().NonRecursive, err = boolean(key, value, hasValue)
	case "bind-create-src":
		p.bind().CreateMountpoint, err = boolean(key, value, hasValue)
	case "bind-recursive":
		p.recursive = value
		err = p.bindRecursive(value)
	case "volume-subpath":
		p.volume().Subpath = value
	case "volume-nocopy":
		p.volume().NoCopy, err = boolean(key, value, hasValue)
	case "volume-label":
		addPair(&p.volume().Labels, value)
	case "volume-driver":
		p.driver().Name = value
	case "volume-opt":
		addPair(&p.driver().Options, value)
	case "image-subpath":
		p.image().Subpath = value
	case "tmpfs-size":
		size, e := units.RAMInBytes(value)
		if e != nil {
			return invalidValue(key, value)
		}
		p.tmpfs().SizeBytes = size
	case "tmpfs-mode":
		mode, e := strconv.ParseUint(value, 8, 32)
		if e != nil {
			return invalidValue(key, value)
		}
		p.tmpfs().Mode = os.FileMode(mode)
	default:
		return fmt.Errorf("unexpected key '%s' in '%s'", key, key+"="+value)
	}
	return err
}

func (p *mountParser) bindRecursive(value string) error {
	b := p.bind()
	switch value {
	case "enabled":
		b.NonRecursive = false
	case "disabled":
		b.NonRecursive = true
	case "writable":
		b.ReadOnlyNonRecursive = true
	case "readonly":
		b.ReadOnlyForceRecursive = true
	default:
		return fmt.Errorf(`invalid value for bind-recursive: %s (must be "enabled", "disabled", "writable", or "readonly")`, value)
	}
	return nil
}

// check refuses fields that do not go together.
func (p *mountParser) check() error {
	m := &p.m
	switch {
	case m.Type == "":
		return errors.New("type is required")
	case m.Target == "":
		return errors.New("target is required")
	case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
		return fmt.Errorf("cannot mix 'volume-*' options with mount type '%s'", m.Type)
	case m.ImageOptions != nil && m.Type != mount.TypeImage:
		return fmt.Errorf("cannot mix 'image-*' options with mount type '%s'", m.Type)
	case m.BindOptions != nil && m.Type != mount.TypeBind:
		return fmt.Errorf("cannot mix 'bind-*' options with mount type '%s'", m.Type)
	case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
		return fmt.Errorf("cannot mix 'tmpfs-*' options with mount type '%s'", m.Type)
	case p.owner != "" && m.Type != mount.TypeBind:
		return fmt.Errorf("cannot mix 'owner' with mount type '%s'", m.Type)
	case m.BindOptions == nil:
		return nil
	case (m.BindOptions.ReadOnlyNonRecursive || m.BindOptions.ReadOnlyForceRecursive) && !m.ReadOnly:
		return fmt.Errorf("option 'bind-recursive=%s' requires 'readonly' to be specified in conjunction", p.recursive)
	case m.BindOptions.ReadOnlyForceRecursive && m.BindOptions.Propagation != mount.PropagationRPrivate:
		return errors.New("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")
	}
	return nil
}

func (p *mountParser) bind() *mount.BindOptions {
	if p.m.BindOptions == nil {
		p.m.BindOptions = &mount.BindOptions{}
	}
	return p.m.BindOptions
}

func (p *mountParser) volume() *mount.VolumeOptions {
	if p.m.VolumeOptions == nil {
		p.m.VolumeOptions = &mount.VolumeOptions{}
	}
	return p.m.VolumeOptions
}

func (p *mountParser) driver() *mount.Driver {
	v := p.volume()
	if v.DriverConfig == nil {
		v.DriverConfig = &mount.Driver{}
	}
	return v.DriverConfig
}

func (p *mountParser) image() *mount.ImageOptions {
	if p.m.ImageOptions == nil {
		p.m.ImageOptions = &mount.ImageOptions{}
	}
	return p.m.ImageOptions
}

func (p *mountParser) tmpfs() *mount.TmpfsOptions {
	if p.m.TmpfsOptions == nil {
		p.m.TmpfsOptions = &mount.TmpfsOptions{}
	}
	return p.m.TmpfsOptions
}

// addPair keeps key=value; a key alone has the empty value.
func addPair(to *map[string]string, s string) {
	if *to == nil {
		*to = map[string]string{}
	}
	k, v, _ := strings.Cut(s, "=")
	(*to)[k] = v
}

// boolean reads a switch, which is on where it has no value.
func boolean(key, value string, hasValue bool) (bool, error) {
	if !hasValue {
		return true, nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, invalidValue(key, value)
	}
	return b, nil
}

func invalidValue(key, value string) error { return fmt.Errorf("invalid value for %s: %s", key, value) }

// csvFields splits a value at its commas; a field with commas is quoted.
func csvFields(s string) ([]string, error) {
	if !strings.ContainsAny(s, "\"\n\r") {
		return strings.Split(s, ","), nil
	}
	return csv.NewReader(strings.NewReader(s)).Read()
}

// SplitVolumes sorts values of --volume: a path alone asks for an anonymous
// volume, anything with a source is a bind or a named volume. A source that
// begins with a dot is made absolute, for the engine lives elsewhere.
func SplitVolumes(specs []string) (binds []string, anonymous map[string]struct{}, err error) {
	anonymous = map[string]struct{}{}
	for _, spec := range specs {
		n, err := sections(spec)
		if err != nil {
			return nil, nil, err
		}
		if n == 1 {
			anonymous[spec] = struct{}{}
			continue
		}
		source, rest, _ := strings.Cut(spec, ":")
		if strings.HasPrefix(source, ".") {
			if source, err = filepath.Abs(source); err != nil {
				return nil, nil, err
			}
		}
		binds = append(binds, source+":"+rest)
	}
	return binds, anonymous, nil
}

// sections counts the sections of a value of --volume as docker does: one or two bytes are
// a path, and the colon behind a single letter is part of a section, as if that were a
// drive of Windows. So v:/v is one path, which is that of an anonymous volume.
func sections(spec string) (n int, err error) {
	switch len(spec) {
	case 0:
		return 0, errors.New("invalid empty volume spec")
	case 1, 2:
		return 1, nil
	}
	var section []rune
	for _, c := range spec {
		if c != ':' || len(section) == 1 && unicode.IsLetter(section[0]) {
			section = append(section, c)
			continue
		}
		if len(section) == 0 {
			break
		}
		if n, section = n+1, nil; n == 3 {
			return 0, fmt.Errorf("invalid spec: %s: too many colons", spec)
		}
	}
	if len(section) == 0 {
		return 0, fmt.Errorf("invalid spec: %s: empty section between colons", spec)
	}
	return n + 1, nil
}
