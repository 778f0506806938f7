package container

import (
	"sort"
	"strings"
	"sync"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// index finds containers by ID, by name and by the beginning of an ID.
type index struct {
	mu     sync.RWMutex
	byID   map[string]*Container
	byName map[string]string // name → ID; a name may be reserved before its container is there
}

func newIndex() *index {
	return &index{byID: map[string]*Container{}, byName: map[string]string{}}
}

// reserve takes a name for an ID. It fails with Docker's text if it is taken.
func (x *index) reserve(name, id string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if other, taken := x.byName[name]; taken {
		return errdefs.New(errdefs.Conflict, "Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, other)
	}
	x.byName[name] = id
	return nil
}

func (x *index) release(name, id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.byName[name] == id {
		delete(x.byName, name)
	}
}

func (x *index) add(c *Container) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byID[c.ID] = c
}

// remove takes the container and its name out.
func (x *index) remove(c *Container) {
	name := c.View().Name
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byID, c.ID)
	if x.byName[name] == c.ID {
		delete(x.byName, name)
	}
}

// get returns the container with a full ID, nil if there is none.
func (x *index) get(id string) *Container {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byID[id]
}

// find resolves what a user calls a container: its ID, its name, or the
// beginning of one ID.
func (x *index) find(ref string) (*Container, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if c := x.byID[ref]; c != nil {
		return c, nil
	}
	if c := x.byID[x.byName[strings.TrimPrefix(ref, "/")]]; c != nil {
		return c, nil
	}
	var found *Container
	if ident.ValidPrefix(ref) {
		for id, c := range x.byID {
			if !strings.HasPrefix(id, ref) {
				continue
			}
			if found != nil {
				return nil, errdefs.New(errdefs.InvalidArgument, "multiple IDs found with provided prefix: %s", ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, errdefs.New(errdefs.NotFound, "No such container: %s", ref)
	}
	return found, nil
}

// list returns all containers, the newest first.
func (x *index) list() []*Container {
	x.mu.RLock()
	all := make([]*Container, 0, len(x.byID))
	for _, c := range x.byID {
		all = append(all, c)
	}
	x.mu.RUnlock()
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i].View(), all[j].View()
		if a.Created.Equal(b.Created) {
			return a.ID < b.ID
		}
		return a.Created.After(b.Created)
	})
	return all
}
