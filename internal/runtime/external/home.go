package external

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Home is the exec root of an engine, on tmpfs.
type Home string

func (h Home) bundles() string { return filepath.Join(string(h), "bundles") }

// Container is a container that another runtime has, or is about to get.
type Container struct {
	Runtime Runtime
	ID      string

	home Home
}

func (c *Container) path(elem ...string) string {
	return filepath.Join(append([]string{c.home.bundles(), c.ID}, elem...)...)
}

// state is the runtime's own directory.
func (c *Container) state() string { return filepath.Join(string(c.home), "runtimes", c.Runtime.Name) }

// New makes the container's bundle, without a spec. What is there of an earlier
// run is removed first.
func (h Home) New(r Runtime, id string) (*Container, error) {
	old, err := h.Open(id)
	if err == nil && old != nil {
		err = old.Delete()
	}
	if err != nil {
		return nil, err
	}
	c := &Container{Runtime: r, ID: id, home: h}
	for _, dir := range []string{c.path("rootfs"), c.state()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return c, c.write("runtime.json", r)
}

// Open returns a container that has a bundle; nil: there is none.
func (h Home) Open(id string) (*Container, error) {
	c := &Container{ID: id, home: h}
	b, err := os.ReadFile(c.path("runtime.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, os.RemoveAll(c.path()) // cut off before anything was started
	}
	if err == nil {
		err = json.Unmarshal(b, &c.Runtime)
	}
	if err != nil {
		return nil, fmt.Errorf("bundle of container %s: %w", id, err)
	}
	return c, nil
}

// List returns the IDs of all containers that have a bundle.
func (h Home) List() ([]string, error) {
	dirs, err := os.ReadDir(h.bundles())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	ids := make([]string, len(dirs))
	for i, d := range dirs {
		ids[i] = d.Name()
	}
	return ids, err
}

// write puts a document into the bundle: whole or not at all.
func (c *Container) write(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.path(name+".new"), b, 0o600); err != nil {
		return err
	}
	return os.Rename(c.path(name+".new"), c.path(name))
}

// mountOf returns where the mount lies that the bundles are on.
func (h Home) mountOf() (string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(string(h)))
	if err != nil {
		return "", err
	}
	var on string
	for _, m := range mounts {
		if len(m.Mountpoint) >= len(on) && strings.HasPrefix(m.Mountpoint, "/") {
			on = m.Mountpoint
		}
	}
	if on == "" {
		return "", fmt.Errorf("could not find the mount of %s", h)
	}
	return on, nil
}
