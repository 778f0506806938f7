package oci

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/cgroup"
)

const (
	stateFile  = "state.json"
	configFile = "config.json"
	fifoFile   = "exec.fifo"
	hookFile   = "hook" // pid and start time of the hook that runs, if one does, and device and inode of its output
)

// Errors whose texts other programs know.
var (
	ErrNotExist   = errors.New("container does not exist")
	ErrExist      = errors.New("container with given ID already exists")
	ErrInvalidID  = errors.New("invalid container ID format")
	ErrNotRunning = errors.New("container not running")
	ErrNotPaused  = errors.New("container not paused")
)

// Status of a container: created, running, paused, stopped.
type Status string

// Creating and the others are the specification's words, and "paused".
const (
	Creating Status = "creating"
	Created  Status = "created"
	Running  Status = "running"
	Paused   Status = "paused"
	Stopped  Status = "stopped"
)

// record is what is kept of a container.
type record struct {
	Version int
	ID      string
	Bundle  string
	Rootfs  string
	Created time.Time
	Owner   int    // uid of who created it
	Cgroup  string // path below the hierarchies' roots
	Unit    string // of systemd, whose cgroup that is; "": none
	Pid     int    // of the first process, 0 before there is one
	Ticks   uint64 // when it was started, so that no other process is taken for it
	Boot    string // kernel's boot id
	Rdt     string // directory of a class of service that is ours
}

const recordVersion = 1

// Root is the directory of all containers.
type Root struct {
	Dir   string
	Debug func(format string, args ...any) // is told what is done; nil: nobody
	Units cgroup.Units                     // of systemd's, for containers with SystemdCgroup
}

func (r Root) debug(format string, args ...any) {
	if r.Debug != nil {
		r.Debug(format, args...)
	}
}

// Container is a container known by its record.
type Container struct {
	record
	root   Root
	dir    string
	lock   *os.File    // see Root.lock
	made   os.FileInfo // of the directory, if we have made it
	config *specs.Spec

	Ready *Readiness // of one that Create or Start has started for a caller who listens, who closes it; else nil
}

// Close gives the lock back.
func (c *Container) Close() {
	if c.lock != nil {
		c.lock.Close()
		c.lock = nil
	}
}

func checkID(id string) error {
	ok := id != "" && id != "." && id != ".." && len(id) <= 1024
	for _, r := range id {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_+-.", r))
	}
	if !ok {
		return ErrInvalidID
	}
	return nil
}

// Open reads a container's record.
func (r Root) Open(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	c := &Container{root: r, dir: filepath.Join(r.Dir, id)}
	b, err := os.ReadFile(c.file(stateFile))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &c.record); err != nil {
		return nil, &os.PathError{Op: "read", Path: c.file(stateFile), Err: err}
	}
	return c, nil
}

// Lock reads a container's record for a change: nobody else changes it until
// Close. Hooks of the container that is being changed are refused.
func (r Root) Lock(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	lock, err := r.lock(id)
	if err != nil {
		return nil, err
	}
	return r.openLocked(id, lock)
}

// openLocked reads a container's record under its lock, which is closed with an
// error.
func (r Root) openLocked(id string, lock *os.File) (*Container, error) {
	c, err := r.Open(id)
	if err != nil {
		lock.Close()
		return nil, err
	}
	c.lock = lock
	return c, nil
}

// lockDir locks a container's directory. One that was removed and made anew
// while we waited is locked again.
func lockDir(dir string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(dir, syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil, ErrNotExist
		}
		if err != nil {
			return nil, err
		}
		if err := flock(f, how); err != nil {
			f.Close()
			return nil, err
		}
		locked, err := f.Stat()
		if now, errNow := os.Stat(dir); err == nil && errNow == nil && os.SameFile(locked, now) {
			return f, nil
		}
		f.Close()
	}
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			return err
		}
	}
}

// reserve makes the directory of a new container, locked. What a killed
// creator left without a record is taken over.
func (r Root) reserve(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(r.Dir, 0o711); err != nil {
		return nil, err
	}
	c := &Container{root: r, dir: filepath.Join(r.Dir, id)}
	err := os.Mkdir(c.dir, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if c.lock, err = lockDir(c.dir, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, ErrExist // its creator is at work, or it is being removed
	}
	if _, err := os.Lstat(c.file(stateFile)); err == nil {
		c.Close()
		return nil, ErrExist
	}
	if c.made, err = c.lock.Stat(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Container) file(name string) string { return c.dir + "/" + name }

// save writes the record, whole or not at all.
func (c *Container) save() error {
	b, err := c.encode()
	if err != nil {
		return err
	}
	return writeFile(c.file(stateFile), b, 0o600)
}

// encode is json.Marshal without the reflection on structures, which would
// cost a start as much as its nursery.
func (r *record) encode() ([]byte, error) {
	b := []byte(`{"Version":` + itoa(r.Version))
	for _, f := range [][2]string{
		{"ID", r.ID}, {"Bundle", r.Bundle}, {"Rootfs", r.Rootfs}, {"Created", r.Created.Format(time.RFC3339Nano)},
		{"Cgroup", r.Cgroup}, {"Unit", r.Unit}, {"Boot", r.Boot}, {"Rdt", r.Rdt},
	} {
		v, err := json.Marshal(f[1])
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"`+f[0]+`":`...), v...)
	}
	return append(b, `,"Owner":`+itoa(r.Owner)+`,"Pid":`+itoa(r.Pid)+`,"Ticks":`+strconv.FormatUint(r.Ticks, 10)+"}"...), nil
}

// writeFile replaces a file by a rename.
func writeFile(name string, b []byte, mode os.FileMode) error {
	tmp := filepath.Dir(name) + "/." + filepath.Base(name)
	if err := os.WriteFile(tmp, b, mode); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// forget removes the container's directory, the record last.
func (c *Container) forget() error {
	for _, name := range []string{fifoFile, configFile, "." + configFile, "." + stateFile, stateFile} {
		if err := os.Remove(c.file(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	err := os.RemoveAll(c.dir)
	c.Close()
	return err
}

// Spec is the container's configuration as it was at create.
func (c *Container) Spec() (*specs.Spec, error) {
	if c.config == nil {
		b, err := os.ReadFile(c.file(configFile))
		if err != nil {
			return nil, err
		}
		if c.config, err = parseSpec(b); err != nil {
			return nil, err
		}
	}
	return c.config, nil
}

// List returns all containers, by id.
func (r Root) List() ([]*Container, error) {
	entries, err := os.ReadDir(r.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []*Container
	for _, e := range entries {
		if c, err := r.Open(e.Name()); err == nil {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Container) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// State is what is told of a container: the specification's fields and runc's.
type State struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Status      Status            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

// State looks at the container.
func (c *Container) State() (*State, error) {
	status, err := c.Status()
	if err != nil {
		return nil, err
	}
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	s := &State{
		OCIVersion: specs.Version, ID: c.ID, Pid: c.Pid, Status: status, Bundle: c.Bundle, Rootfs: c.Rootfs,
		Created: c.Created, Annotations: spec.Annotations,
	}
	if status == Stopped {
		s.Pid = 0
	}
	return s, nil
}
