// Package index finds containers by what users call them: an ID, a name, the
// beginning of an ID. It makes up names for those that get none.
package index

import (
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// Label is what an item is found and ordered by.
type Label struct {
	ID, Name string
	Created  time.Time
}

// Item is a container. Its ID never changes; its name may.
type Item interface{ Label() Label }

// Index finds items by ID, by name and by the beginning of an ID. Safe for
// concurrent use.
type Index[T Item] struct {
	// Link returns what an item calls another one by, ALIAS of ITEM/ALIAS; "" if there is
	// no such. May be nil; is set before use, and called without locks.
	Link func(of T, alias string) (ref string)

	mu     sync.RWMutex
	byID   map[string]T
	byName map[string]string // name → ID; a name may be reserved before its item is there
}

// New returns an empty index.
func New[T Item]() *Index[T] {
	return &Index[T]{byID: map[string]T{}, byName: map[string]string{}}
}

// Reserve takes a name for an ID. It fails with Docker's text if it is taken.
func (x *Index[T]) Reserve(name, id string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if other, taken := x.byName[name]; taken {
		return errdefs.New(errdefs.Conflict, "Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, other)
	}
	x.byName[name] = id
	return nil
}

// Release gives a name back, unless another ID has it by now.
func (x *Index[T]) Release(name, id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.byName[name] == id {
		delete(x.byName, name)
	}
}

// Add makes an item visible. Its name is reserved already.
func (x *Index[T]) Add(c T) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byID[c.Label().ID] = c
}

// Remove takes the container and its name out.
func (x *Index[T]) Remove(c T) {
	l := c.Label()
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byID, l.ID)
	if x.byName[l.Name] == l.ID {
		delete(x.byName, l.Name)
	}
}

// Get returns the item with a full ID, the zero value if there is none.
func (x *Index[T]) Get(id string) T {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byID[id]
}

// Find resolves what a user calls a container: its ID, its name, the beginning of one ID,
// or the name that a link gives it, PARENT/ALIAS. The errors are Docker's.
func (x *Index[T]) Find(ref string) (found T, err error) {
	found, err = x.find(ref)
	name := strings.Trim(ref, "/")
	at := strings.LastIndexByte(name, '/')
	if err == nil || at < 0 || x.Link == nil {
		return found, err
	}
	parent, none := x.find(name[:at])
	if none != nil {
		return found, err
	}
	if to := x.Link(parent, name[at+1:]); to != "" {
		return x.find(to)
	}
	return found, err
}

func (x *Index[T]) find(ref string) (found T, err error) {
	if ref == "" {
		return found, errdefs.New(errdefs.InvalidArgument, `invalid name or ID supplied: ""`)
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if c, ok := x.byID[ref]; ok {
		return c, nil
	}
	if c, ok := x.byID[x.byName[strings.TrimPrefix(ref, "/")]]; ok {
		return c, nil
	}
	n := 0
	if ident.ValidPrefix(ref) {
		for id, c := range x.byID {
			if strings.HasPrefix(id, ref) {
				found = c
				n++
			}
		}
	}
	var none T
	switch n {
	case 0:
		return none, errdefs.New(errdefs.NotFound, "No such container: %s", ref)
	case 1:
		return found, nil
	}
	return none, errdefs.New(errdefs.InvalidArgument, "multiple IDs found with provided prefix: %s", ref)
}

// Has reports whether f holds for any item. f may not call the index.
func (x *Index[T]) Has(f func(T) bool) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, c := range x.byID {
		if f(c) {
			return true
		}
	}
	return false
}

// List returns all containers, the newest first.
func (x *Index[T]) List() []T {
	x.mu.RLock()
	all := make([]T, 0, len(x.byID))
	for _, c := range x.byID {
		all = append(all, c)
	}
	x.mu.RUnlock()
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i].Label(), all[j].Label()
		if a.Created.Equal(b.Created) {
			return a.ID < b.ID
		}
		return a.Created.After(b.Created)
	})
	return all
}
