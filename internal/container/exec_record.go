package container

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/store"
)

// execRecord is what the next engine knows of an exec whose process may run:
// EXECROOT/execs/ID.json, from before its start to its end.
type execRecord struct {
	ID, Container  string
	Request        container.ExecCreateRequest
	EndsWithClient bool `json:",omitempty"`
}

func (r *records) execs() string { return filepath.Join(r.execRoot, "execs") }

func (r *records) execPath(id string) string { return filepath.Join(r.execs(), id+".json") }

// Preconditions: x.mu is held.
func (r *records) putExec(x *Exec) error {
	return store.PutVolatile(r.execPath(x.ID), execRecord{x.ID, x.Container, x.Request, x.endsWithClient})
}

// removeExec removes the record of an exec; there may be none.
func (r *records) removeExec(id string) {
	if err := removeFile(r.execPath(id)); err != nil {
		slog.Warn("remove the record of an exec", "exec", id, "err", err)
	}
}

// load books the execs that an earlier engine has started in containers that
// are there. Which of them still run is seen from the keeper's list; see settle.
func (all *Execs) load() error {
	files, err := os.ReadDir(all.records.execs())
	if err != nil {
		return err
	}
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), ".json")
		if !f.Type().IsRegular() {
			slog.Warn("this is no record of an exec", "file", all.records.execs()+"/"+f.Name())
			continue
		}
		var rec execRecord
		err := store.Get(all.records.execPath(id), &rec)
		if ok && err == nil && rec.ID == id && ident.Valid(id) && all.index.Get(rec.Container) != nil {
			all.add(&Exec{ID: id, Container: rec.Container, Request: rec.Request, started: true, loaded: true, endsWithClient: rec.EndsWithClient, done: newTurn()})
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			slog.Warn("the record of an exec cannot be read", "file", f.Name(), "err", err)
		}
		if err := removeFile(filepath.Join(all.records.execs(), f.Name())); err != nil { // also of a write that was cut off
			return err
		}
	}
	return nil
}

// settle drops those that load has booked and that neither run nor have an exit
// that is still to be told: their start never came about.
func (all *Execs) settle(ended map[string]bool) {
	for _, x := range all.list() {
		if !x.loaded {
			continue
		}
		x.mu.Lock()
		never := !x.running && x.exitCode.Load() == nil && !ended[x.ID]
		x.mu.Unlock()
		if never {
			all.drop(x.ID)
		}
	}
}

// drop forgets an exec, and its record.
func (all *Execs) drop(id string) {
	all.execTable.drop(id)
	all.records.removeExec(id)
}

// forget drops all execs of a container.
func (all *Execs) forget(containerID string) {
	for _, x := range all.list() {
		if x.Container == containerID {
			all.drop(x.ID)
		}
	}
}
