package dataroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/dataroot/bolt"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/inroot"
)

// What Docker keeps beside images, in all versions from 20.10 on:
//
//	volumes/metadata.db                     name → driver, options, labels (Volumes)
//	volumes/NAME/_data                      the files of one of the driver local
//	network/files/local-kv.db               path → networks, among others (Networks)
//	containers/ID/config.v2.json            configuration, mounts, networks, last run (Containers)
//	containers/ID/hostconfig.json           the host's part of it
//	containers/ID/ID-json.log[.N]           its output
//	image/overlay2/layerdb/mounts/ID/mount-id   where its read-write layer is:
//	overlay2/MOUNT-ID/diff
const (
	volumesFile    = "volumes/metadata.db"
	networksFile   = "network/files/local-kv.db"
	containersDir  = "containers"
	networksPrefix = "docker/network/v1.0/network/"

	maxObject = 4 << 20 // bytes of the record of one object
)

// OpenDocker opens the data root of a Docker that need not have images. It is
// closed as one of Open.
func OpenDocker(dir string) (*Root, error) {
	r, err := Open(dir)
	if !errors.Is(err, errNoImages) {
		return r, err
	}
	f, oerr := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if oerr != nil {
		return nil, wrong("data root", oerr)
	}
	r = &Root{dir: f}
	for _, name := range []string{volumesFile, networksFile, containersDir} {
		if _, serr := inroot.Stat(f, name); serr == nil {
			return r, nil
		}
	}
	return nil, errors.Join(errdefs.New(errdefs.InvalidArgument, "data root %s: it is not Docker's", dir), r.Close())
}

// Idle refuses a data root whose Docker runs: it holds its databases locked.
func (r *Root) Idle() error {
	for _, name := range []string{volumesFile, networksFile} {
		f, err := inroot.OpenRegular(r.dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return r.wrong(err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return errdefs.New(errdefs.Conflict, "Docker is running on %s: stop it first (systemctl stop docker.socket docker)", r.dir.Name())
		}
		if err != nil {
			return r.wrong(err)
		}
	}
	return nil
}

// Volume is a volume of Docker's.
type Volume struct {
	Name, Driver    string
	Labels, Options map[string]string
}

// Volumes lists the volumes, sorted.
func (r *Root) Volumes() ([]Volume, error) {
	var list []Volume
	err := r.eachValue(volumesFile, "volumes", func(key, value []byte) error {
		var v Volume
		if err := json.Unmarshal(value, &v); err != nil {
			return fmt.Errorf("volume %.100q: %w", key, err)
		}
		if v.Name != string(key) {
			return fmt.Errorf("volume %.100q: it is called %.100q", key, v.Name)
		}
		list = append(list, v)
		return nil
	})
	slices.SortFunc(list, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// VolumeFiles opens the directory of a volume of the driver local.
func (r *Root) VolumeFiles(name string) (*os.File, error) {
	f, err := inroot.OpenExact(r.dir, path.Join("volumes", path.Base(name), "_data"), inroot.ODirectory)
	if err != nil {
		return nil, wrong("files of the volume", err)
	}
	return f, nil
}

// Network is a network of Docker's.
type Network struct {
	ID      string
	Request network.CreateRequest // that makes one like it
}

// networkRecord is what libnetwork writes of a network.
type networkRecord struct {
	ID, Name, NetworkType, Scope, ConfigFrom  string
	EnableIPv4                                *bool // nil: Docker before 28, where it is on
	EnableIPv6, Internal, Attachable, Ingress bool
	ConfigOnly                                bool
	Labels                                    map[string]string
	Generic                                   map[string]json.RawMessage
	IPAMType                                  string `json:"ipamType"`
	IPAMOptions                               map[string]string
	IPAMV4Config, IPAMV6Config                string // JSON
	IPAMV4Info, IPAMV6Info                    string // JSON
}

// predefined are the networks that each Docker has by itself.
var predefined = []string{"bridge", "docker_gwbridge", "host", "ingress", "none"}

// Networks lists the networks that users have made, sorted by name.
func (r *Root) Networks() ([]Network, error) {
	var list []Network
	err := r.eachValue(networksFile, "libnetwork", func(key, value []byte) error {
		id, ok := strings.CutPrefix(string(key), networksPrefix)
		if !ok {
			return nil
		}
		var rec networkRecord
		if i := slices.Index(value, '{'); i < 0 { // a number stands before
			return fmt.Errorf("network %.64s: it is no JSON", id)
		} else if err := json.Unmarshal(value[i:], &rec); err != nil {
			return fmt.Errorf("network %.64s: %w", id, err)
		}
		if slices.Contains(predefined, rec.Name) {
			return nil
		}
		n, err := rec.network()
		if err != nil {
			return fmt.Errorf("network %.100q: %w", rec.Name, err)
		}
		list = append(list, n)
		return nil
	})
	slices.SortFunc(list, func(a, b Network) int { return strings.Compare(a.Request.Name, b.Request.Name) })
	return list, err
}

func (rec *networkRecord) network() (Network, error) {
	n := Network{ID: rec.ID, Request: network.CreateRequest{
		Name: rec.Name, Driver: rec.NetworkType, Internal: rec.Internal, Attachable: rec.Attachable,
		ConfigOnly: rec.ConfigOnly, Labels: rec.Labels, EnableIPv4: rec.EnableIPv4, EnableIPv6: &rec.EnableIPv6,
	}}
	if rec.ConfigFrom != "" {
		n.Request.ConfigFrom = &network.ConfigReference{Network: rec.ConfigFrom}
		return n, nil // it has everything else from there
	}
	if raw, ok := rec.Generic["com.docker.network.generic"]; ok {
		if err := json.Unmarshal(raw, &n.Request.Options); err != nil {
			return n, err
		}
	}
	ipam := &network.IPAM{Driver: rec.IPAMType, Options: rec.IPAMOptions}
	for _, texts := range [][2]string{{rec.IPAMV4Config, rec.IPAMV4Info}, {rec.IPAMV6Config, rec.IPAMV6Info}} {
		list, err := subnets(texts[0], texts[1])
		if err != nil {
			return n, err
		}
		ipam.Config = append(ipam.Config, list...)
	}
	n.Request.IPAM = ipam
	return n, nil
}

// Container is a container of Docker's.
type Container struct {
	ID, Name   string
	Created    time.Time
	Image      string // ID
	Driver     string // of storage
	Config     *container.Config
	HostConfig *container.HostConfig
	Networks   map[string]*network.EndpointSettings
	Volumes    map[string]string // by target
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int
	OOMKilled  bool
	Error      string
	Stopped    bool // by a user
}

// containerRecord is what Docker writes of a container.
type containerRecord struct {
	ID, Name, Image, Driver string
	Created                 time.Time
	Config                  *container.Config
	HasBeenManuallyStopped  bool
	NetworkSettings         struct {
		Networks map[string]*network.EndpointSettings
	}
	MountPoints map[string]struct {
		Type mount.Type
		Name string
	}
	State struct {
		Running, OOMKilled    bool
		ExitCode              int
		Error                 string
		StartedAt, FinishedAt time.Time
	}
}

// ContainerIDs lists the containers.
func (r *Root) ContainerIDs() ([]string, error) {
	list, err := names(r.dir, containersDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, r.wrong(err)
	}
	return slices.DeleteFunc(list, func(id string) bool { return !ident.Valid(id) }), nil
}

// Container reads one container.
func (r *Root) Container(id string) (*Container, error) {
	var rec containerRecord
	host := &container.HostConfig{}
	for name, to := range map[string]any{"config.v2.json": &rec, "hostconfig.json": host} {
		at := path.Join(containersDir, id, name)
		b, err := read(r.dir, at, maxObject)
		if err == nil {
			err = json.Unmarshal(b, to)
		}
		if err != nil {
			return nil, wrong(at, err)
		}
	}
	if rec.ID != id || rec.Config == nil || rec.Name == "" {
		return nil, errdefs.New(errdefs.InvalidArgument, "containers/%s/config.v2.json is not whole", id)
	}
	c := &Container{
		ID: id, Name: strings.TrimPrefix(rec.Name, "/"), Created: rec.Created, Image: rec.Image, Driver: rec.Driver,
		Config: rec.Config, HostConfig: host, Networks: rec.NetworkSettings.Networks, Volumes: map[string]string{},
		StartedAt: rec.State.StartedAt, FinishedAt: rec.State.FinishedAt, ExitCode: rec.State.ExitCode,
		OOMKilled: rec.State.OOMKilled, Error: rec.State.Error, Stopped: rec.HasBeenManuallyStopped,
	}
	if rec.State.Running { // it went with its Docker
		c.ExitCode, c.FinishedAt = 255, rec.State.StartedAt
	}
	for target, m := range rec.MountPoints {
		if m.Type == mount.TypeVolume && m.Name != "" {
			c.Volumes[path.Clean(target)] = m.Name
		}
	}
	return c, nil
}

// ContainerFiles opens the read-write layer of a container, in the form of overlayfs.
func (r *Root) ContainerFiles(c *Container) (*os.File, error) {
	if c.Driver != "overlay2" {
		return nil, errdefs.New(errdefs.NotImplemented, "its own files are in Docker's storage driver %.100q, and are read from overlay2 only: commit it with Docker to an image and import that", c.Driver)
	}
	dir, err := word(r.dir, path.Join("image/overlay2/layerdb/mounts", c.ID, "mount-id"))
	if err == nil && !isCacheID(dir) {
		err = fmt.Errorf("its mount-id is %.100q", dir)
	}
	if err != nil {
		return nil, wrong("its read-write layer", err)
	}
	f, err := inroot.OpenExact(r.dir, path.Join("overlay2", dir, "diff"), inroot.ODirectory)
	if err != nil {
		return nil, wrong("its read-write layer", err)
	}
	return f, nil
}

// maxLogFiles bounds how many files of a log are looked for.
const maxLogFiles = 1000

// ContainerLog opens the files of a container's log in Docker's json-file format,
// the oldest first; those that are compressed are left out.
func (r *Root) ContainerLog(id string) (files []*os.File, err error) {
	base := path.Join(containersDir, id, id+"-json.log")
	for n := 0; n < maxLogFiles; n++ {
		name := base
		if n > 0 {
			name = fmt.Sprintf("%s.%d", base, n)
		}
		f, err := inroot.OpenRegular(r.dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, wrong("its log", err)
		}
		files = append(files, f)
	}
	slices.Reverse(files)
	return files, nil
}

// eachValue calls f for each value of a bucket; a database that is not there has none.
func (r *Root) eachValue(name, bucket string, f func(key, value []byte) error) error {
	file, err := inroot.OpenRegular(r.dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return r.wrong(err)
	}
	defer file.Close()
	err = bolt.Read(file, func(root *bolt.Bucket) error {
		b, err := root.Bucket(bucket)
		if err != nil || b == nil {
			return err
		}
		n := 0
		return b.Each(func(key, value []byte, _ *bolt.Bucket) error {
			if n++; n > maxEntries || len(value) > maxObject {
				return fmt.Errorf("it has more than %d entries, or one of more than %d bytes", maxEntries, maxObject)
			}
			return f(key, value)
		})
	})
	if err != nil {
		return r.wrong(fmt.Errorf("%s: %w", name, err))
	}
	return nil
}
