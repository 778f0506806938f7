// Package rundir is what a keeper leaves in the run directory for the next
// one: which processes there are, and which exits nobody has acknowledged.
//
//	live/ID/process.json   pid and start time
//	live/ID/pid            what the child itself wrote before its plan began
//	exits/ID.json
//
// The directory is in memory: there is nothing to sync, and a reboot ends both
// the files and what they describe.
package rundir

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/host"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// Dir is an exec root.
type Dir string

// Path joins names to the directory's.
func (d Dir) Path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// Live is the directory of what runs.
func (d Dir) Live() string { return d.Path("live") }

// Make makes the directories, and takes the lock that one keeper may have.
func (d Dir) Make() (lock *os.File, err error) {
	for _, p := range []string{string(d), d.Live(), d.Path("exits"), d.Path("keeper")} {
		if err := os.MkdirAll(p, 0o710); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(d.Path("keeper"), 0o700); err != nil {
		return nil, err
	}
	return takeLock(d.Path("keeper", "lock"))
}

// takeLock makes sure that one keeper serves an exec root.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	fd, err := rawfd.Number(f)
	for begun := time.Now(); err == nil; time.Sleep(5 * time.Millisecond) {
		err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		// A nursery of a keeper that has just died may hold it for a moment.
		if errors.Is(err, syscall.EWOULDBLOCK) && time.Since(begun) < time.Second {
			err = nil
		}
	}
	return nil, errors.Join(fmt.Errorf("another keeper serves this directory: %w", err), f.Close())
}

// WriteExit records an exit.
func (d Dir) WriteExit(x wire.Exit) error { return writeJSON(d.Path("exits", x.ID+".json"), x) }

// RemoveExit removes the record of an exit, if there is one.
func (d Dir) RemoveExit(id string) error {
	err := os.Remove(d.Path("exits", id+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Exits reads all exits. Files that are none are removed and reported to
// setAside.
func (d Dir) Exits(setAside func(file string, err error)) (map[string]wire.Exit, error) {
	files, err := os.ReadDir(d.Path("exits"))
	if err != nil {
		return nil, err
	}
	exits := map[string]wire.Exit{}
	for _, f := range files {
		var x wire.Exit
		id, ok := strings.CutSuffix(f.Name(), ".json")
		if err := readJSON(d.Path("exits", f.Name()), &x); !ok || err != nil || x.ID != id {
			setAside(f.Name(), err)
			os.Remove(d.Path("exits", f.Name()))
			continue
		}
		exits[id] = x
	}
	return exits, nil
}

// Process is live/ID/process.json.
type Process struct {
	wire.Process
	BootID string
}

// OfThisBoot reports whether the pid means anything.
func (p Process) OfThisBoot() bool { return p.BootID == bootID() }

// WriteProcess records a process.
func (d Dir) WriteProcess(p wire.Process) error {
	path := d.Path("live", p.ID, "process.json")
	err := writeJSON(path, Process{p, bootID()})
	if errors.Is(err, os.ErrNotExist) { // adopted: the directory may be gone
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeJSON(path, Process{p, bootID()})
		}
	}
	return err
}

// RemoveProcess removes what WriteProcess and OpenPidFile have made, and what
// ReadRuntimePid reads.
func (d Dir) RemoveProcess(id string) error {
	var errs []error
	for _, name := range []string{"process.json", "pid", wire.RuntimePid} {
		if err := os.Remove(d.Path("live", id, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ReadProcess reads the record of a process, or makes one of the pid that the
// child has left. [os.ErrNotExist]: there is nothing.
func (d Dir) ReadProcess(id string) (r Process, err error) {
	err = readJSON(d.Path("live", id, "process.json"), &r)
	if errors.Is(err, os.ErrNotExist) {
		r.Process, err = d.unrecorded(id)
		r.BootID = bootID()
	}
	return r, err
}

// unrecorded is the process of a start whose keeper died between the clone and
// the record. The child itself has written its pid, or has ended.
func (d Dir) unrecorded(id string) (wire.Process, error) {
	b, err := os.ReadFile(d.Path("live", id, "pid"))
	if err != nil {
		return wire.Process{}, err
	}
	if len(b) < 4 {
		return wire.Process{}, os.ErrNotExist
	}
	p := wire.Process{ID: id, Pid: int(binary.LittleEndian.Uint32(b))}
	ours, err := process.StartTicks(os.Getpid())
	if err != nil {
		return p, err
	}
	if p.StartTicks, err = process.StartTicks(p.Pid); err == nil && p.StartTicks > ours {
		err = os.ErrNotExist // a process of after that keeper's death
	}
	return p, err
}

// OpenPidFile makes live/ID/pid, into which a child writes its pid before all
// else: between the clone and the record a next keeper knows it by that.
func (d Dir) OpenPidFile(id string) (*os.File, error) {
	path := d.Path("live", id, "pid")
	const flags = syscall.O_CREAT | syscall.O_TRUNC | syscall.O_WRONLY | syscall.O_CLOEXEC
	fd, err := syscall.Open(path, flags, 0o600)
	if errors.Is(err, os.ErrNotExist) { // a terminal leaves nothing there
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			fd, err = syscall.Open(path, flags, 0o600)
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// ReadRuntimePid returns the pid of the process that an OCI runtime has left.
func (d Dir) ReadRuntimePid(id string) (int, error) {
	b, err := os.ReadFile(d.Path("live", id, wire.RuntimePid))
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%s of %s: %q is no pid", wire.RuntimePid, id, b)
	}
	return pid, nil
}

// writeJSON replaces a file. An os.File would cost every start twice as many
// calls.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	fd, err := syscall.Open(path+".new", syscall.O_CREAT|syscall.O_TRUNC|syscall.O_WRONLY|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "open", Path: path + ".new", Err: err}
	}
	n, err := syscall.Write(fd, b)
	if err == nil && n < len(b) {
		err = syscall.ENOSPC
	}
	if err = errors.Join(err, syscall.Close(fd)); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// bootID is empty if the kernel does not say.
func bootID() string {
	id, _ := host.BootID()
	return id
}
