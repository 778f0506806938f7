package oci

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/idmap"
	"github.com/tare-engine/tare/internal/linux/proc"
	"github.com/tare-engine/tare/internal/runtime"
)

// idMaps are the maps of a user namespace that a container joins.
type idMaps struct {
	joined     bool
	uids, gids []specs.LinuxIDMapping
}

// userPath is the path of the user namespace to be joined, "" if there is none.
func userPath(s *specs.Spec) string {
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			return n.Path
		}
	}
	return ""
}

// newLauncher makes the launcher of the first process: in the user namespace
// that the spec names, if any. All that is new of the container then belongs to
// that namespace, as if it had been made in it.
func (k *creation) newLauncher() (err error) {
	path := userPath(k.b.spec)
	if path == "" {
		k.l, err = newLauncher(nil)
		return err
	}
	ns, err := proc.OpenNamespace(path, syscall.CLONE_NEWUSER)
	if err != nil {
		return fmt.Errorf("linux.namespaces: user: %w", err)
	}
	defer ns.Close()
	k.l, err = newLauncher(ns)
	if errors.Is(err, syscall.EINVAL) {
		err = fmt.Errorf("%w (is it the runtime's own?)", err)
	}
	if err != nil {
		return fmt.Errorf("linux.namespaces: user: %w", err)
	}
	if k.maps, err = mapsOf(k.l.nursery.Pid()); err == nil {
		err = k.maps.check(k.b.spec.Linux)
	}
	if err != nil {
		k.l.close()
		return fmt.Errorf("linux.namespaces: user: %w", err)
	}
	return nil
}

// mapsOf are the maps of the user namespace of the process.
func mapsOf(pid int) (idMaps, error) {
	uids, gids, err := idmap.Of(pid)
	return idMaps{true, runtime.Mappings(uids), runtime.Mappings(gids)}, err
}

// check refuses a namespace without maps, and maps of the spec that are not
// the namespace's: engines that name both mean the same by both.
func (m idMaps) check(l *specs.Linux) error {
	if len(m.uids) == 0 || len(m.gids) == 0 {
		return errors.New("the namespace has no maps of ids")
	}
	if len(l.UIDMappings)+len(l.GIDMappings) == 0 || runtime.SameMaps(m.uids, l.UIDMappings) && runtime.SameMaps(m.gids, l.GIDMappings) {
		return nil
	}
	return fmt.Errorf("the namespace's maps are not those of linux.uidMappings and gidMappings: they are %v and %v", m.uids, m.gids)
}

// uids are the container's users on the host; nil: they are the host's.
func (c *Container) uids(s *specs.Spec) ([]specs.LinuxIDMapping, error) {
	if userPath(s) == "" {
		return s.Linux.UIDMappings, nil
	}
	uids, _, err := idmap.Of(c.Pid)
	if errors.Is(err, os.ErrNotExist) {
		err = os.ErrProcessDone
	}
	return runtime.Mappings(uids), err
}
