// Package store keeps records: one JSON document per object, written so that
// neither a killed process nor a power cut leaves half of one.
//
// A record is written to a temporary file beside its place, synced, renamed,
// and its directory synced, before Put returns. Writers that come while a
// round of syncs is under way share the next one: a hundred records at once
// cost two waits for the disk, not two hundred.
//
// Records of things that a reboot ends live on tmpfs; PutVolatile writes those
// with the same atomicity and no sync.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/disk"
)

// Store writes records durably. The zero value is not usable: see New.
type Store struct {
	reserve *Reserve

	mu      sync.Mutex
	pending []*job
	running bool
}

// job is one change that waits for the disk.
type job struct {
	tmp, path string   // the file to sync and its final name; empty: directories only
	dirs      []string // directories to sync after the rename
	done      chan error
}

// TempPattern matches the files that a write which was cut off leaves beside the
// record. Who owns the directory removes them when it is opened.
const TempPattern = ".tmp-*"

// New returns a store.
func New() *Store { return &Store{} }

// NewReserved returns a store that changes existing records on a full disk too,
// by giving up r. New records are refused then.
func NewReserved(r *Reserve) *Store { return &Store{reserve: r} }

// Put writes v as JSON to path, durably. The directory of path must exist;
// dirs are further directories whose entries must be durable too, such as the
// parent of a directory that was just made.
func (s *Store) Put(path string, v any, dirs ...string) error {
	err := s.put(path, v, dirs)
	if disk.IsFull(err) && s.reserve != nil {
		if _, e := os.Lstat(path); e == nil {
			return s.reserve.Use(func() error { return s.put(path, v, dirs) })
		}
	}
	return err
}

func (s *Store) put(path string, v any, dirs []string) error {
	tmp, err := writeTemp(path, v)
	if err != nil {
		return err
	}
	failpoint.Hit("record/temporary-written")
	return s.commit(&job{tmp: tmp, path: path, dirs: append([]string{filepath.Dir(path)}, dirs...)})
}

// SyncDirs makes the entries of directories durable, as after a removal.
func (s *Store) SyncDirs(dirs ...string) error { return s.commit(&job{dirs: dirs}) }

func (s *Store) commit(j *job) error {
	j.done = make(chan error, 1)
	s.mu.Lock()
	s.pending = append(s.pending, j)
	lead := !s.running
	s.running = true
	s.mu.Unlock()
	if lead {
		s.rounds()
	}
	return <-j.done
}

// rounds is run by the writer who found nobody at work; it works off what
// comes in until nothing is left.
func (s *Store) rounds() {
	for {
		s.mu.Lock()
		round := s.pending
		s.pending = nil
		if len(round) == 0 {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		syncRound(round)
	}
}

func syncRound(round []*job) {
	errs := make([]error, len(round))
	each(round, func(i int, j *job) {
		if j.tmp != "" {
			errs[i] = syncFile(j.tmp)
		}
	})
	failpoint.Hit("record/synced")
	for i, j := range round {
		if j.tmp == "" {
			continue
		}
		if errs[i] == nil {
			errs[i] = os.Rename(j.tmp, j.path)
		}
		if errs[i] != nil {
			os.Remove(j.tmp)
		}
	}
	failpoint.Hit("record/renamed")
	dirErrs := syncDirs(round)
	for i, j := range round {
		for _, d := range j.dirs {
			errs[i] = errors.Join(errs[i], dirErrs[d])
		}
		j.done <- errs[i]
	}
}

// syncDirs syncs each directory of the round once.
func syncDirs(round []*job) map[string]error {
	errs := map[string]error{}
	for _, j := range round {
		for _, d := range j.dirs {
			if _, done := errs[d]; !done {
				errs[d] = syncFile(d)
			}
		}
	}
	return errs
}

// each runs f for all jobs at once: the file system merges their syncs.
func each(round []*job, f func(int, *job)) {
	if len(round) == 1 {
		f(0, round[0])
		return
	}
	var wg sync.WaitGroup
	limit := make(chan struct{}, 16)
	for i, j := range round {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			f(i, j)
		})
	}
	wg.Wait()
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func writeTemp(path string, v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("record %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), TempPattern)
	if err != nil {
		return "", err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// PutVolatile writes v as JSON to path atomically, without a sync: for records
// on tmpfs.
func PutVolatile(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	return renameio.WriteFile(path, append(b, '\n'), 0600, renameio.WithTempDir(filepath.Dir(path)))
}

// Get reads the record at path into v. A record that is not there is
// fs.ErrNotExist; one that cannot be read as v names its path.
func Get(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	return nil
}

// SetAside renames a record (or an object's directory) that cannot be read, so
// that the next start does not meet it again. It returns the new name.
func SetAside(path string) (string, error) {
	for i := 0; ; i++ {
		to := fmt.Sprintf("%s.damaged-%d", path, i)
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			return to, os.Rename(path, to)
		}
	}
}
