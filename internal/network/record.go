package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/store"
)

// record is what is kept on disk of a network: DIR/ID.json.
type record struct {
	Version    int               `json:"version"`
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Created    time.Time         `json:"created"`
	Gateway    netip.Prefix      `json:"gateway,omitzero"` // the link's address, with the subnet's length
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	Options    map[string]string `json:"options,omitempty"` // the driver's, as they were given
	Labels     map[string]string `json:"labels,omitempty"`
	// IPAM is what was asked for; a subnet that was not is Chosen.
	IPAM   network.IPAM `json:"ipam,omitzero"`
	Chosen bool         `json:"chosen,omitempty"`
}

const recordVersion = 1

// readRecords returns the records on disk by name. A damaged one is set aside:
// a predefined network then gets a new id, which nothing else refers to on disk.
func (s *Service) readRecords() (map[string]record, error) {
	left, err := filepath.Glob(filepath.Join(s.cfg.Dir, store.TempPattern)) // of a write that was cut off
	if err != nil {
		return nil, err
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil {
			return nil, err
		}
	}
	files, err := filepath.Glob(filepath.Join(s.cfg.Dir, "*.json"))
	if err != nil {
		return nil, err
	}
	have := map[string]record{}
	for _, f := range files {
		var r record
		if err := store.Get(f, &r); err != nil || !ident.Valid(r.ID) || r.Version != recordVersion {
			aside, e := store.SetAside(f)
			if e != nil {
				return nil, errors.Join(err, e)
			}
			s.log.Warn("network record set aside", "file", aside, "err", err)
			continue
		}
		have[r.Name] = r
	}
	return have, nil
}

func (s *Service) recordFile(id string) string { return filepath.Join(s.cfg.Dir, id+".json") }

func (s *Service) putRecord(r record) error { return store.New().Put(s.recordFile(r.ID), r) }

// deleteRecord removes a record from the disk; it may be gone.
func (s *Service) deleteRecord(id string) error {
	if err := os.Remove(s.recordFile(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return store.New().SyncDirs(s.cfg.Dir)
}
