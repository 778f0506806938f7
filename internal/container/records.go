package container

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/store"
)

// records knows where everything lies that is kept of a container, and reads
// and writes it:
//
//	DATAROOT/containers/ID/record.json   its record, durable
//	DATAROOT/containers/ID/log/          its output
//	DATAROOT/containers/ID/hosts …       files that the engine writes for it
//	EXECROOT/containers/ID.json          the record of one that removes itself
//	EXECROOT/containers/ID.live.json     its process (see live)
//	EXECROOT/containers/ID.cgroup        where its groups are in a user's parent (see groups)
//	EXECROOT/containers/ID.shm           tmpfs that it shares with others
//	EXECROOT/execs/ID.json               a further process (see execRecord)
//	EXECROOT/mounts/ID-N                 a part of a volume, or an image, while a container starts
//
// It has no state of its own and takes no lock: a change of a container's files
// is made under the lock of the container.
type records struct {
	dataRoot, execRoot string
	store              *store.Store
}

// prepare makes the directories that hold all others.
func (r *records) prepare() error {
	return errors.Join(os.MkdirAll(r.all(), 0710), os.MkdirAll(r.volatile(), 0710), os.MkdirAll(r.execs(), 0710))
}

// all is the folder of the containers' folders.
func (r *records) all() string { return filepath.Join(r.dataRoot, "containers") }

// volatile is the folder on tmpfs of what a reboot ends.
func (r *records) volatile() string { return filepath.Join(r.execRoot, "containers") }

// mountRules are those of a container's mounts.
func (r *records) mountRules(rec *Record) spec.MountRules {
	return spec.MountRules{DataRoot: r.dataRoot, Shallow: rec.ShallowBinds, Settled: rec.Mounts}
}

// dir is a container's folder below the data root.
func (r *records) dir(id string) string { return filepath.Join(r.all(), id) }

// file is something in a container's folder.
func (r *records) file(id, name string) string { return filepath.Join(r.dir(id), name) }

func (r *records) logDir(id string) string { return r.file(id, "log") }

func (r *records) shmDir(id string) string { return filepath.Join(r.volatile(), id+".shm") }

// parts is the folder of the parts of volumes.
func (r *records) parts() string { return filepath.Join(r.execRoot, "mounts") }

func (r *records) livePath(id string) string { return filepath.Join(r.volatile(), id+".live.json") }

// path is where a record lies.
func (r *records) path(rec *Record) string {
	if rec.HostConfig.AutoRemove {
		return r.volatilePath(rec.ID)
	}
	return r.durablePath(rec.ID)
}

func (r *records) durablePath(id string) string  { return r.file(id, "record.json") }
func (r *records) volatilePath(id string) string { return filepath.Join(r.volatile(), id+".json") }

// put writes a record where it belongs.
func (r *records) put(rec *Record) error {
	if rec.HostConfig.AutoRemove {
		return store.PutVolatile(r.path(rec), rec)
	}
	return r.store.Put(r.path(rec), rec)
}

// putNew writes a record whose directory is new as well.
func (r *records) putNew(rec *Record) error {
	if rec.HostConfig.AutoRemove {
		return r.put(rec)
	}
	return r.store.Put(r.path(rec), rec, r.all())
}

// taken reports whether there is no record, or no more.
func (r *records) taken(rec *Record) bool {
	_, err := os.Lstat(r.path(rec))
	return errors.Is(err, fs.ErrNotExist)
}

// remove takes a record away; it may be gone already. The removal is not
// durable until sync.
func (r *records) remove(rec *Record) error { return removeFile(r.path(rec)) }

// sync makes the removal of a record durable.
func (r *records) sync(rec *Record) error {
	if rec.HostConfig.AutoRemove {
		return nil
	}
	err := r.store.SyncDirs(r.dir(rec.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// load reads a container's record, wherever it lies. nil, nil: it has none,
// which is what a create or a removal leaves that was cut off. After an error
// path is the file that cannot be read.
func (r *records) load(id string) (rec *Record, path string, err error) {
	for _, path = range []string{r.durablePath(id), r.volatilePath(id)} {
		rec = new(Record)
		if err = store.Get(path, rec); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = rec.check(id)
		}
		return rec, path, err
	}
	return nil, path, nil
}

// check refuses what our own writer does not write.
func (r *Record) check(id string) error {
	switch {
	case r.Version < 1 || r.Version > recordVersion:
		return fmt.Errorf("version %d is not known", r.Version)
	case r.ID != id:
		return fmt.Errorf("it is of container %q", r.ID)
	case r.Config == nil || r.HostConfig == nil || r.Name == "":
		return errors.New("it is not whole")
	}
	return nil
}

// setAside takes a container that cannot be read out of the way: its whole
// directory is renamed, so that nothing of it is lost.
func (r *records) setAside(id, record string, cause error) {
	to, err := store.SetAside(r.dir(id))
	slog.Error("a container's record cannot be read; the container is set aside", "record", record, "cause", cause, "kept", to, "err", err)
}

// damaged reports whether a container of the ID has been set aside.
func (r *records) damaged(id string) bool {
	found, err := filepath.Glob(r.dir(id) + ".*")
	return err != nil || len(found) > 0
}

// ids returns the IDs of all containers that have a folder.
func (r *records) ids() ([]string, error) {
	dirs, err := os.ReadDir(r.all())
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range dirs {
		if ident.Valid(d.Name()) {
			ids = append(ids, d.Name())
		}
	}
	return ids, nil
}

// removeStray removes what lies on tmpfs of containers that are not there.
func (r *records) removeStray(there func(id string) bool) error {
	files, err := os.ReadDir(r.volatile())
	if err != nil {
		return err
	}
	for _, f := range files {
		if id, _, _ := strings.Cut(f.Name(), "."); there(id) {
			continue
		}
		if err := removeFile(filepath.Join(r.volatile(), f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// live is the live record of a container; nil, nil: it has none.
func (r *records) live(id string) (*live, error) {
	l := new(live)
	err := store.Get(r.livePath(id), l)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return l, err
}

func (r *records) putLive(id string, l live) error { return store.PutVolatile(r.livePath(id), l) }

func (r *records) removeLive(id string) error { return removeFile(r.livePath(id)) }

// removeFile removes a file that may be gone already.
func removeFile(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
