package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/logfile"
)

// finish reports the end of a child: what it wrote is in the log and with the
// clients before the exit is recorded, and the exit is recorded before it is
// told.
func (k *Keeper) finish(c *child, e ended) {
	p := c.process
	x := Exit{ID: p.ID, Container: p.Container, Pid: p.Pid, Status: e.status, At: e.at}
	if c.parked() {
		k.finishParked(c, x)
		return
	}
	k.streams.drain(p.ID, statusFrame(x))
	failpoint.Hit("keeper/exit-drained")
	// Before the exit is told: then the ID may be started again.
	k.streams.close(p.ID)
	k.report(c, x)
	if c.mounts != nil {
		k.mounts.drop(c.mounts)
	}
}

// report records an exit, takes the child off the list, and tells.
func (k *Keeper) report(c *child, x Exit) {
	if err := writeJSON(k.path("exits", x.ID+".json"), x); err != nil {
		k.log.Error("exit is not recorded", "id", x.ID, "error", err)
	}
	failpoint.Hit("keeper/exit-recorded")
	k.mu.Lock()
	delete(k.children, x.ID)
	k.exits[x.ID] = x
	k.mu.Unlock()
	k.removeProcess(x.ID) // after it is off the list: doAdopt writes the record and then looks
	failpoint.Hit("keeper/exit-listed")
	k.tell(opExited, x)
	failpoint.Hit("keeper/exit-told")
}

// ack forgets an exit that the engine has recorded.
func (k *Keeper) ack(id string) error {
	if !usableID(id) {
		return errdefs.New(errdefs.InvalidArgument, "bad ID %q", id)
	}
	k.mu.Lock()
	_, running := k.children[id]
	k.mu.Unlock()
	if running {
		return errdefs.New(errdefs.Conflict, "process %s has not ended", id)
	}
	k.streams.remove(id)
	failpoint.Hit("keeper/ack-removed")
	err := os.Remove(k.path("exits", id+".json"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err == nil {
		k.mu.Lock()
		delete(k.exits, id)
		k.mu.Unlock()
	}
	return err
}

// listed returns what is behind the ID after, in the order of IDs.
func (k *Keeper) listed(after string) []item {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []item
	for id, c := range k.children {
		if id > after && c.state != starting {
			p := c.process
			p.Parked, p.Orphan = c.state == parked, c.state == orphan
			out = append(out, item{id: id, process: &p})
		}
	}
	for id, x := range k.exits {
		if id > after {
			out = append(out, item{id: id, exit: &x})
		}
	}
	slices.SortFunc(out, func(a, b item) int { return strings.Compare(a.id, b.id) })
	return out
}

// processRecord is live/ID/process.json: what a next keeper must know.
type processRecord struct {
	Process
	BootID string
}

func (k *Keeper) writeProcess(p Process) error {
	path := k.path("live", p.ID, "process.json")
	err := writeJSON(path, processRecord{p, bootID()})
	if errors.Is(err, os.ErrNotExist) { // adopted: the directory may be gone
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeJSON(path, processRecord{p, bootID()})
		}
	}
	return err
}

func (k *Keeper) removeProcess(id string) {
	for _, name := range []string{"process.json", "pid"} {
		if err := os.Remove(k.path("live", id, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			k.log.Warn("process record stays", "id", id, "error", err)
		}
	}
}

// openPidFile makes live/ID/pid, into which a child writes its pid before all
// else: between the clone and the record a next keeper knows it by that.
func (k *Keeper) openPidFile(id string) (*os.File, error) {
	path := k.path("live", id, "pid")
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

// writeJSON replaces a file of the run directory, which is in memory: there is
// nothing to sync. An os.File would cost every start twice as many calls.
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

// bootID changes with every boot: a pid of another one means nothing.
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// statusFrame is what a client with Status gets at the end: a document that
// package api calls RunStatus, in a frame of stream 3.
func statusFrame(x Exit) []byte {
	code := x.Status.ExitStatus()
	if x.Status.Signaled() {
		code = 128 + int(x.Status.Signal())
	}
	doc := fmt.Sprintf(`{"Id":%q,"ExitCode":%d}`, x.ID, code)
	b := make([]byte, frameHeader, frameHeader+len(doc))
	putHeader(b, systemStream, len(doc))
	return append(b, doc...)
}

// systemStream is the stream of a frame with the engine's own words.
const systemStream logfile.Stream = 3
