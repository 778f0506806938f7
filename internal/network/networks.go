package network

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/store"
)

// networks are the networks there are, and their records on disk.
type networks struct {
	dir    string
	log    *slog.Logger
	list   atomic.Pointer[[]*Network] // read by all
	making sync.Mutex                 // held while the list changes; taken before the table's
}

// all are the networks, the predefined ones first. The slice is not to be changed.
func (ns *networks) all() []*Network { return *ns.list.Load() }

// set replaces the list.
func (ns *networks) set(all []*Network) { ns.list.Store(&all) }

// Find returns the id and the name of a network by its name, id, or the beginning
// of its id, which no other has.
func (ns *networks) Find(ref string) (id, name string, err error) {
	n, err := ns.find(ref)
	if err != nil {
		return "", "", err
	}
	return n.rec.ID, n.rec.Name, nil
}

// find is Find for the network itself.
func (ns *networks) find(ref string) (*Network, error) {
	if ref == "default" || ref == "" {
		ref = "bridge"
	}
	all := ns.all()
	for _, n := range all {
		if n.rec.Name == ref || n.rec.ID == ref {
			return n, nil
		}
	}
	var found *Network
	for _, n := range all {
		if !strings.HasPrefix(n.rec.ID, ref) {
			continue
		}
		if found != nil {
			return nil, errdefs.New(errdefs.InvalidArgument, "network %s is ambiguous (2 matches found based on ID prefix)", ref)
		}
		found = n
	}
	if found == nil {
		return nil, errdefs.New(errdefs.NotFound, "network %s not found", ref)
	}
	return found, nil
}

// readRecords returns the records on disk by name. A damaged one is set aside:
// a predefined network then gets a new id, which nothing else refers to on disk.
func (ns *networks) readRecords() (map[string]record, error) {
	left, err := filepath.Glob(filepath.Join(ns.dir, store.TempPattern)) // of a write that was cut off
	if err != nil {
		return nil, err
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil {
			return nil, err
		}
	}
	files, err := filepath.Glob(filepath.Join(ns.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	have := map[string]record{}
	for _, f := range files {
		var r record
		if err := r.read(f); err != nil {
			aside, e := store.SetAside(f)
			if e != nil {
				return nil, errors.Join(err, e)
			}
			ns.log.Warn("network record set aside", "file", aside, "err", err)
			continue
		}
		have[r.Name] = r
	}
	return have, nil
}

func (ns *networks) recordFile(id string) string { return filepath.Join(ns.dir, id+".json") }

func (ns *networks) putRecord(r record) error { return store.New().Put(ns.recordFile(r.ID), r) }

// deleteRecord removes a record from the disk; it may be gone.
func (ns *networks) deleteRecord(id string) error {
	if err := os.Remove(ns.recordFile(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return store.New().SyncDirs(ns.dir)
}
