package devicemapper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/store"
)

// pooler is the pool, as far as the ledger needs it. Errors of CreateThin and
// CreateSnap with an ID that is there are fs.ErrExist, of Delete with one that is not
// fs.ErrNotExist.
type pooler interface {
	Transaction() (uint64, error)
	SetTransaction(from, to uint64) error
	CreateThin(id uint32) error
	CreateSnap(id, origin uint32) error
	Delete(id uint32) error
}

// device is the record of a thin device.
type device struct {
	Version     int    `json:"version"`
	ID          uint32 `json:"id"` // in the pool
	Parent      uint32 `json:"parent,omitempty"`
	Size        int64  `json:"size"`        // bytes
	Transaction uint64 `json:"transaction"` // that has made it: IDs are used again
	Doomed      bool   `json:"doomed,omitempty"`
}

// transaction is the change of the pool that was begun last.
type transaction struct {
	Version int    `json:"version"`
	Number  uint64 `json:"number"` // the pool's when it is done
	Op      string `json:"op"`
	Device  device `json:"device"`
}

const (
	ledgerVersion = 1

	opCreate = "create"
	opDelete = "delete"
)

// ledger is the records of the devices, in step with the pool. A change is written
// down, then made in the pool, then counted there, then recorded:
//
//	transaction.json  create 17 of 4, number 9      (on disk)
//	pool              create_snap 17 4
//	pool              set_transaction_id 8 9
//	devices/17.json                                 (on disk)
//
// So the pool's number says, whenever we are killed, how far that one change came:
// with 8 device 17 is not wanted, with 9 it is made. A number that is neither belongs
// to another pool.
type ledger struct {
	dir   string
	pool  pooler
	store *store.Store

	mu sync.Mutex
	// +checklocks:mu
	devices map[uint32]device
	number  uint64 // the pool's
	last    uint32 // the ID that was given last
}

// maxID is the highest ID in a pool.
const maxID = 1<<24 - 1

// openLedger reads the records and brings them into agreement with the pool.
func openLedger(dir string, pool pooler) (*ledger, error) {
	l := &ledger{dir: dir, pool: pool, store: store.New(), devices: map[uint32]device{}}
	if err := os.MkdirAll(l.records(), 0o700); err != nil {
		return nil, err
	}
	if err := l.read(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l, l.settle()
}

func (l *ledger) records() string { return filepath.Join(l.dir, "devices") }
func (l *ledger) record(id uint32) string {
	return filepath.Join(l.records(), fmt.Sprintf("%d.json", id))
}
func (l *ledger) begun() string { return filepath.Join(l.dir, "transaction.json") }

func (l *ledger) read() error {
	entries, err := os.ReadDir(l.records())
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(l.records(), e.Name())
		base, is := strings.CutSuffix(e.Name(), ".json")
		id, err := strconv.ParseUint(base, 10, 32)
		if !is || err != nil { // what a write that was cut off has left
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		var d device
		if err := readRecord(path, &d); err != nil {
			return err
		}
		if d.Version != ledgerVersion || uint64(d.ID) != id {
			return fmt.Errorf("%s: device %d, version %d; want %d, version %d", path, d.ID, d.Version, id, ledgerVersion)
		}
		l.devices[d.ID] = d
		l.last = max(l.last, d.ID)
	}
	return nil
}

// readRecord reads a document.
func readRecord(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// settle ends the change that was begun last. Preconditions: l.mu is held.
func (l *ledger) settle() error {
	number, err := l.pool.Transaction()
	if err != nil {
		return err
	}
	var t transaction
	err = readRecord(l.begun(), &t)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if number != 0 || len(l.devices) > 0 {
			return fmt.Errorf("the thin pool has transaction %d, and %s is missing: this is the pool of another data root", number, l.begun())
		}
		return nil
	case err != nil:
		return err
	case t.Version != ledgerVersion || t.Op != opCreate && t.Op != opDelete:
		return fmt.Errorf("%s: version %d, operation %q", l.begun(), t.Version, t.Op)
	case number != t.Number && number != t.Number-1:
		return fmt.Errorf("the thin pool has transaction %d, and the last one in %s is %d: this is the pool of another data root, or an older copy", number, l.begun(), t.Number)
	}
	l.number = number
	l.last = max(l.last, t.Device.ID)
	d, ok := l.devices[t.Device.ID]
	switch {
	case t.Op == opDelete:
		err := l.endDelete(t)
		if ok && errors.Is(err, syscall.EBUSY) {
			return l.doomed(d)
		}
		return err
	case ok && d.Transaction == t.Number:
		return nil
	}
	// Nobody was told of the device.
	if err := l.deleted(t.Device.ID); err != nil {
		return err
	}
	return l.forget(t.Device.ID)
}

// forget takes a record away, on disk too. Preconditions: l.mu is held.
func (l *ledger) forget(id uint32) error {
	if err := os.Remove(l.record(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(l.devices, id)
	failpoint.Hit("thin/forgotten")
	return l.store.SyncDirs(l.records())
}

// deleted has the pool have no such device.
func (l *ledger) deleted(id uint32) error {
	if err := l.pool.Delete(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// endDelete takes a deletion that is written down to its end. Preconditions: l.mu is
// held.
func (l *ledger) endDelete(t transaction) error {
	if l.number != t.Number {
		if err := l.deleted(t.Device.ID); err != nil {
			return err
		}
		failpoint.Hit("thin/deleted")
		if err := l.count(t.Number); err != nil {
			return err
		}
	}
	return l.forget(t.Device.ID)
}

// count has the pool know the number of a change that it has made. Preconditions: l.mu is held.
func (l *ledger) count(number uint64) error {
	if err := l.pool.SetTransaction(l.number, number); err != nil {
		return err
	}
	l.number = number
	failpoint.Hit("thin/counted")
	return nil
}

// begin writes down what is about to be done. Preconditions: l.mu is held.
func (l *ledger) begin(op string, d device) (transaction, error) {
	t := transaction{Version: ledgerVersion, Number: l.number + 1, Op: op, Device: d}
	err := l.store.Put(l.begun(), t)
	failpoint.Hit("thin/begun")
	return t, err
}

// create makes a device: a snapshot of parent, or an empty one if parent is 0.
func (l *ledger) create(parent uint32, size int64) (device, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id, err := l.free()
	if err != nil {
		return device{}, err
	}
	d := device{Version: ledgerVersion, ID: id, Parent: parent, Size: size, Transaction: l.number + 1}
	t, err := l.begin(opCreate, d)
	if err != nil {
		return device{}, err
	}
	if err := l.make(t); err != nil {
		return device{}, errors.Join(err, l.settle())
	}
	l.devices[id] = d
	l.last = id
	failpoint.Hit("thin/recorded")
	return d, nil
}

func (l *ledger) make(t transaction) (err error) {
	d := t.Device
	if d.Parent == 0 {
		err = l.pool.CreateThin(d.ID)
	} else {
		err = l.pool.CreateSnap(d.ID, d.Parent)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("thin/made")
	if err := l.count(t.Number); err != nil {
		return err
	}
	return l.store.Put(l.record(d.ID), d)
}

// free finds an ID; 0 is none's. Preconditions: l.mu is held.
func (l *ledger) free() (uint32, error) {
	for try, id := 0, l.last; try <= len(l.devices); try++ {
		if id++; id > maxID {
			id = 1
		}
		if _, taken := l.devices[id]; !taken {
			return id, nil
		}
	}
	return 0, fmt.Errorf("the thin pool has %d devices: no more can be told apart", len(l.devices))
}

// delete deletes a device that nothing uses.
func (l *ledger) delete(d device) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, ok := l.devices[d.ID]; !ok || now.Transaction != d.Transaction {
		return nil
	}
	t, err := l.begin(opDelete, d)
	if err != nil {
		return err
	}
	return l.endDelete(t)
}

// doom notes that a device is to be deleted as soon as nothing uses it.
func (l *ledger) doom(d device) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, ok := l.devices[d.ID]; !ok || now.Transaction != d.Transaction {
		return nil
	}
	return l.doomed(d)
}

// doomed is doom of a device that is there. Preconditions: l.mu is held.
func (l *ledger) doomed(d device) error {
	d.Doomed = true
	if err := l.store.Put(l.record(d.ID), d); err != nil {
		return err
	}
	l.devices[d.ID] = d
	failpoint.Hit("thin/doomed")
	return nil
}

// find returns the device that a place names.
func (l *ledger) find(p place) (device, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.devices[p.ID]
	return d, ok && d.Transaction == p.Transaction
}

// all lists the devices.
func (l *ledger) all() []device {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]device, 0, len(l.devices))
	for _, d := range l.devices {
		list = append(list, d)
	}
	return list
}
