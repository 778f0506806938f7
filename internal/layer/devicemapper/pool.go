package devicemapper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	blockdev "github.com/tare-engine/tare/internal/linux/device"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
	"github.com/tare-engine/tare/internal/linux/loop"
	"github.com/tare-engine/tare/internal/store"
)

// setting is pool.json: what cannot change, or is not asked for again.
type setting struct {
	Version   int      `json:"version"`
	Ident     string   `json:"ident"` // in the names of our devices
	BlockSize int64    `json:"blockSize"`
	FS        string   `json:"fs"`
	MkfsArgs  []string `json:"mkfsArgs,omitempty"`
	Base      uint32   `json:"base,omitempty"` // the device with the empty file system; 0: not made yet
	// The devices that were given; none: loop files.
	Pool     string `json:"pool,omitempty"`
	Data     string `json:"data,omitempty"`
	Metadata string `json:"metadata,omitempty"`
}

const (
	settingFile  = "pool.json"
	dataFile     = "data"
	metadataFile = "metadata"
	sector       = 512
)

// pool is the active thin pool. One that is ours goes, with its loop devices, when
// nobody uses it any more: it is marked for that, and kept by an open descriptor,
// which a kill closes.
type pool struct {
	conn *dm.Conn
	dir  string
	set  setting
	name string
	dev  dm.Dev
	pin  *os.File
	free int // per cent of it that has to be, for something new

	dataFiles [2]string // loop files of data and metadata, if it lies on such
	devices   [2]string // data and metadata device, by path
}

// openPool activates the pool, or takes up the one that is active.
func openPool(conn *dm.Conn, dir string, o options) (*pool, error) {
	p := &pool{conn: conn, dir: dir, free: o.least()}
	if err := p.open(o); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *pool) open(o options) error {
	if err := p.readSetting(o); err != nil {
		return err
	}
	if p.set.Pool != "" {
		return p.takeOver()
	}
	p.name = p.prefix() + "pool"
	under, err := p.under(o)
	if err != nil {
		return err
	}
	defer under.close()
	return p.activate(under)
}

// prefix begins the names of our devices.
func (p *pool) prefix() string { return "tare-" + p.set.Ident + "-" }

// readSetting reads what the pool is, or says what it becomes.
func (p *pool) readSetting(o options) error {
	path := filepath.Join(p.dir, settingFile)
	err := readRecord(path, &p.set)
	if errors.Is(err, fs.ErrNotExist) {
		return p.newSetting(o, path)
	}
	if err != nil {
		return err
	}
	if p.set.Version != ledgerVersion {
		return fmt.Errorf("%s: version %d, want %d", path, p.set.Version, ledgerVersion)
	}
	if p.set.Base == 0 { // it came to no file system the last time
		p.chooseFS(o)
	}
	for _, same := range []struct {
		option, given, is string
		anyway            bool
	}{
		{"dm.fs", o.fs, p.set.FS, o.fs == ""},
		{"dm.mkfsarg", strings.Join(o.mkfsArgs, " "), strings.Join(p.set.MkfsArgs, " "), o.mkfsArgs == nil},
		{"dm.blocksize", human(o.blockSize), human(p.set.BlockSize), o.blockSize == 0},
		{"dm.thinpooldev", o.poolDevice, p.set.Pool, false},
		{"dm.datadev", o.data, p.set.Data, false},
		{"dm.metadatadev", o.metadata, p.set.Metadata, false},
	} {
		if !same.anyway && same.given != same.is {
			return fmt.Errorf("%s is %q, and the pool of this data root was made with %q: start the engine with that, or with another data root", same.option, same.given, same.is)
		}
	}
	return nil
}

func (p *pool) newSetting(o options, path string) error {
	p.set = setting{
		Version: ledgerVersion, Ident: ident.New()[:8], BlockSize: o.blockSize,
		Pool: o.poolDevice, Data: o.data, Metadata: o.metadata,
	}
	p.chooseFS(o)
	if p.set.BlockSize == 0 {
		p.set.BlockSize = defaultBlockSize
	}
	if p.set.Metadata != "" {
		if err := checkEmpty(p.set.Metadata); err != nil {
			return err
		}
	}
	if p.set.Pool != "" {
		if err := p.checkUnused(); err != nil {
			return err
		}
	}
	return p.saveSetting(path)
}

// chooseFS says which file system there will be.
func (p *pool) chooseFS(o options) {
	p.set.FS, p.set.MkfsArgs = o.fs, o.mkfsArgs
	if p.set.FS == "" {
		p.set.FS = defaultFS
	}
}

func (p *pool) saveSetting(path string) error {
	return store.New().Put(path, p.set, filepath.Dir(p.dir))
}

// setBase notes which device has the empty file system.
func (p *pool) setBase(id uint32) error {
	p.set.Base = id
	return p.saveSetting(filepath.Join(p.dir, settingFile))
}

// checkEmpty makes sure that a metadata device has no pool on it: the kernel makes
// one only where there are zeros, and would take another one up.
func checkEmpty(path string) error {
	b, err := blockdev.First(path)
	if err != nil {
		return fmt.Errorf("dm.metadatadev: %w", err)
	}
	if !bytes.Equal(b, make([]byte, len(b))) {
		return fmt.Errorf("dm.metadatadev: %s has something on it: if that is not needed, write zeros over its first 4096 bytes (dd if=/dev/zero of=%s bs=4096 count=1)", path, path)
	}
	return nil
}

// checkUnused makes sure that a pool that is given has nothing in it.
func (p *pool) checkUnused() error {
	if err := p.findGiven(); err != nil {
		return err
	}
	s, err := p.status()
	if err != nil {
		return err
	}
	if s.Transaction != 0 || s.Data.Used != 0 {
		return fmt.Errorf("dm.thinpooldev: the pool %s is in use: it has transaction %d and %d blocks of data; give a new one", p.set.Pool, s.Transaction, s.Data.Used)
	}
	return nil
}

// findGiven finds the pool that is given, by the path of its device.
func (p *pool) findGiven() error {
	node, err := blockdev.At(p.set.Pool)
	if err != nil {
		return fmt.Errorf("dm.thinpooldev: %w", err)
	}
	p.dev = dm.Dev{Major: uint32(node.Major), Minor: uint32(node.Minor)}
	info, table, err := p.conn.Table(dm.Number(p.dev), dm.Query{NoOpenCount: true})
	if err != nil {
		return fmt.Errorf("dm.thinpooldev: %s: %w", p.set.Pool, err)
	}
	t, err := poolTable(table)
	if err != nil {
		return fmt.Errorf("dm.thinpooldev: %s: %w", p.set.Pool, err)
	}
	p.name, p.devices, p.set.BlockSize = info.Name, [2]string{t.Data, t.Metadata}, int64(t.BlockSize)*sector
	return nil
}

func (p *pool) takeOver() (err error) {
	if err := p.findGiven(); err != nil {
		return err
	}
	p.pin, err = os.Open(p.set.Pool)
	return err
}

// poolTable reads a table that is to be a pool's.
func poolTable(table dm.Table) (*target.ThinPool, error) {
	if len(table) != 1 || table[0].Type != "thin-pool" {
		return nil, errors.New("it is no thin pool")
	}
	t, err := target.Parse(table[0].Type, table[0].Params)
	if err != nil {
		return nil, err
	}
	return t.(*target.ThinPool), nil
}

// underlying are the devices below a pool, open.
type underlying struct {
	data, metadata *os.File
	size           int64 // of data
}

func (u *underlying) close() {
	for _, f := range []*os.File{u.data, u.metadata} {
		if f != nil {
			f.Close() // the table has them
		}
	}
}

// under opens the devices below the pool, which may have grown.
func (p *pool) under(o options) (u *underlying, err error) {
	u = &underlying{}
	defer func() {
		if err != nil {
			u.close()
		}
	}()
	if p.set.Data != "" {
		if u.data, err = os.OpenFile(p.set.Data, os.O_RDWR, 0); err != nil {
			return u, fmt.Errorf("dm.datadev: %w", err)
		}
		if u.metadata, err = os.OpenFile(p.set.Metadata, os.O_RDWR, 0); err != nil {
			return u, fmt.Errorf("dm.metadatadev: %w", err)
		}
	} else {
		p.dataFiles = [2]string{filepath.Join(p.dir, dataFile), filepath.Join(p.dir, metadataFile)}
		if u.data, err = attach("dm.loopdatasize", p.dataFiles[0], o.loopData, defaultLoopData); err != nil {
			return u, err
		}
		if u.metadata, err = attach("dm.loopmetadatasize", p.dataFiles[1], o.loopMetadata, defaultLoopMetadata); err != nil {
			return u, err
		}
	}
	p.devices = [2]string{u.data.Name(), u.metadata.Name()}
	u.size, err = blockdev.Size(u.data)
	return u, err
}

// attach returns the loop device of a file, which is made, or grows, to a size; 0: it
// stays, or gets the other one.
func attach(option, path string, size, other int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	is := info.Size()
	if size == 0 && is == 0 {
		size = other
	}
	if size != 0 && size < is {
		return nil, fmt.Errorf("%s is %s, and %s has %s: it can grow, but not shrink", option, human(size), path, human(is))
	}
	if size > is {
		if err := f.Truncate(size); err != nil {
			return nil, err
		}
	}
	dev, err := loop.Attach(f)
	if err != nil || size <= is {
		return dev, err
	}
	if err := loop.Refresh(dev); err != nil {
		dev.Close()
		return nil, err
	}
	return dev, nil
}

// table is the pool's on the devices.
func (p *pool) table(u *underlying) (dm.Table, error) {
	metadata, err := numberOf(u.metadata)
	if err != nil {
		return nil, err
	}
	data, err := numberOf(u.data)
	if err != nil {
		return nil, err
	}
	blocks := uint64(u.size / p.set.BlockSize)
	if blocks == 0 {
		return nil, fmt.Errorf("%s has no block of %s", u.data.Name(), human(p.set.BlockSize))
	}
	t := &target.ThinPool{
		Metadata: metadata.String(), Data: data.String(), BlockSize: uint64(p.set.BlockSize / sector),
		LowWater: blocks * (100 - fullPercent) / 100,
		// Who writes when there is no room reads so, instead of waiting for it.
		Features: target.Args{"error_if_no_space"},
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return dm.Table{{Length: blocks * t.BlockSize, Type: t.Type(), Params: t.AppendParams(nil)}}, nil
}

func numberOf(f *os.File) (dm.Dev, error) {
	n, err := blockdev.At(f.Name())
	return dm.Dev{Major: uint32(n.Major), Minor: uint32(n.Minor)}, err
}

// For how long a device may be on its way out of the kernel, and how often we look.
const (
	goingPause = 20 * time.Millisecond
	goingTries = 500
)

// activate makes the pool, or takes up and grows the one that is there.
func (p *pool) activate(u *underlying) error {
	want, err := p.table(u)
	if err != nil {
		return err
	}
	for range goingTries {
		err = p.tryActivate(want)
		if !going(err) {
			return err
		}
		time.Sleep(goingPause)
	}
	return fmt.Errorf("the thin pool %s cannot be made or taken up: %w", p.name, err)
}

// going reports whether an error is that of a device that is about to go, or has just
// come.
func going(err error) bool {
	return err != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ENODEV))
}

func (p *pool) tryActivate(want dm.Table) error {
	info, err := p.conn.Info(dm.Name(p.name), dm.Query{})
	if errors.Is(err, fs.ErrNotExist) {
		info, err = p.conn.Activate(p.name, want, dm.CreateOptions{})
		if errors.Is(err, syscall.EBUSY) { // the one before lets go of its devices after it has gone
			return fmt.Errorf("%w: %w", err, fs.ErrExist)
		}
	}
	if err != nil {
		return err
	}
	if !info.Live { // a kill came before its table
		if err := p.conn.Remove(dm.Name(p.name), dm.RemoveOptions{}); err != nil {
			return err
		}
		return fs.ErrNotExist
	}
	if p.pin, err = pin(p.conn, p.name, info.Dev); err != nil {
		return err
	}
	p.dev = info.Dev
	if err := p.update(info, want); err != nil {
		return errors.Join(err, p.close())
	}
	return p.conn.Remove(dm.Name(p.name), dm.RemoveOptions{Deferred: true})
}

// update has an active pool have the wanted table: another one if its devices are
// larger now.
func (p *pool) update(info dm.Info, want dm.Table) error {
	ref := dm.Number(info.Dev)
	_, now, err := p.conn.Table(ref, dm.Query{NoOpenCount: true})
	if err != nil {
		return err
	}
	is, err := poolTable(now)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	wanted, err := poolTable(want)
	if err != nil {
		return err
	}
	if is.Data != wanted.Data || is.Metadata != wanted.Metadata {
		return fmt.Errorf("the thin pool %s is active on %s and %s, not on %s and %s: it is that of a copy of this data root", p.name, is.Data, is.Metadata, wanted.Data, wanted.Metadata)
	}
	if now[0].Length > want[0].Length {
		return fmt.Errorf("the thin pool %s has %s of data, and its device %s: it cannot shrink", p.name, human(int64(now[0].Length)*sector), human(int64(want[0].Length)*sector))
	}
	if !info.Suspended {
		// A metadata device that has grown is seen by this, too.
		if _, err := p.conn.Load(ref, want, dm.LoadOptions{}); err != nil {
			return err
		}
	}
	_, err = p.conn.Resume(ref, dm.SuspendOptions{})
	return err
}

// pin opens a device, which then stays.
func pin(conn *dm.Conn, name string, dev dm.Dev) (*os.File, error) {
	if err := conn.MakeNodes(name); err != nil {
		return nil, err
	}
	path := nodePath(name)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if n, err := numberOf(f); err != nil || n != dev {
		f.Close()
		return nil, errors.Join(err, fs.ErrNotExist)
	}
	return f, nil
}

func nodePath(name string) string { return filepath.Join("/dev/mapper", name) }

// close lets the pool go with its last device.
func (p *pool) close() error {
	if p.pin == nil {
		return nil
	}
	f := p.pin
	p.pin = nil
	return f.Close()
}

func (p *pool) status() (*target.ThinPoolStatus, error) {
	_, table, err := p.conn.Status(dm.Number(p.dev), dm.Query{NoFlush: true, NoOpenCount: true})
	if err != nil {
		return nil, err
	}
	if len(table) != 1 {
		return nil, fmt.Errorf("the thin pool %s has %d tables", p.name, len(table))
	}
	s, err := target.ParseStatus("thin-pool", table[0].Params)
	if err != nil {
		return nil, err
	}
	st := s.(*target.ThinPoolStatus)
	if st.Failed {
		return nil, fmt.Errorf("the thin pool %s has failed (%s says why): stop all containers and the engine, then check its metadata, %s, with thin_check", p.name, "the kernel's log", p.devices[1])
	}
	return st, nil
}

// metadataBlock is the size of a block of metadata.
const metadataBlock = 4096

// space is what there is of a pool, in bytes.
type space struct{ used, total, free int64 }

// spaces are those of data and metadata.
func (p *pool) spaces(s *target.ThinPoolStatus) (data, metadata space) {
	of := func(u target.Used, block int64) space {
		return space{used: int64(u.Used) * block, total: int64(u.Total) * block, free: int64(u.Total-u.Used) * block}
	}
	return of(s.Data, p.set.BlockSize), of(s.Metadata, metadataBlock)
}

// room is an error if there is less left than has to be for something new.
func (p *pool) room() error {
	s, err := p.status()
	if err != nil {
		return err
	}
	if s.Mode == "ro" || s.NeedsCheck == "needs_check" {
		return errdefs.New(errdefs.Unavailable, "the thin pool %s is read-only as its metadata needs a check: stop all containers and the engine, then repair %s with thin_check or thin_repair", p.name, p.devices[1])
	}
	data, metadata := p.spaces(s)
	for _, part := range []struct {
		what string
		space
	}{{"data", data}, {"metadata", metadata}} {
		least := part.total / 100 * int64(p.free)
		if part.free < least || part.free == 0 {
			return errdefs.New(errdefs.Unavailable, "the thin pool %s has %s of %s left for %s, and dm.min_free_space=%d%% has %s kept free for what runs: remove containers or images, %s, or lower dm.min_free_space",
				p.name, human(part.free), human(part.total), part.what, p.free, human(least), p.larger(part.what))
		}
	}
	return p.roomBelow()
}

// roomBelow is room of the file system that has the loop files: where it is full, what
// the pool has written goes nowhere.
func (p *pool) roomBelow() error {
	if p.dataFiles[0] == "" || p.free == 0 {
		return nil
	}
	below, err := disk.Of(p.dir)
	if err != nil {
		return err
	}
	if below.Free < below.Bytes/100 {
		return errdefs.New(errdefs.Unavailable, "the thin pool %s lies in files below %s, where %s of %s are left: make room there", p.name, p.dir, human(below.Free), human(below.Bytes))
	}
	return nil
}

// explain adds to an error of a mount, which writes, that the pool is full.
func (p *pool) explain(err error) error {
	if err == nil {
		return nil
	}
	if s, bad := p.status(); bad != nil || s.Mode != "out_of_data_space" {
		return err
	}
	return errdefs.New(errdefs.Unavailable, "the thin pool %s is full: remove containers or images, or %s: %w", p.name, p.larger("data"), err)
}

// larger says how the pool becomes larger.
func (p *pool) larger(what string) string {
	switch {
	case p.dataFiles[0] == "" && p.set.Pool != "":
		return "enlarge " + p.set.Pool
	case what == "data" && p.dataFiles[0] != "":
		return "start the engine with a greater dm.loopdatasize (or make room below " + p.dir + ")"
	case p.dataFiles[0] != "":
		return "start the engine with a greater dm.loopmetadatasize (or make room below " + p.dir + ")"
	case what == "data":
		return "enlarge " + p.set.Data + " and start the engine again"
	}
	return "enlarge " + p.set.Metadata + " and start the engine again"
}

// fullPercent is how full a pool is when its kernel tells us, and we the log.
const fullPercent = 80

var _ pooler = (*pool)(nil)

// Transaction is the number of the pool's last change.
func (p *pool) Transaction() (uint64, error) {
	s, err := p.status()
	if err != nil {
		return 0, err
	}
	return s.Transaction, nil
}

// SetTransaction sets it.
func (p *pool) SetTransaction(from, to uint64) error {
	return p.message("set_transaction_id %d %d", from, to)
}

// CreateThin makes a device without blocks.
func (p *pool) CreateThin(id uint32) error { return p.message("create_thin %d", id) }

// CreateSnap makes a device that shares all blocks of another, whose file system is
// whole meanwhile: nobody writes, or it is frozen.
func (p *pool) CreateSnap(id, origin uint32) (err error) {
	name := p.thinName(origin)
	info, err := p.conn.Info(dm.Name(name), dm.Query{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err != nil:
		return err
	case info.Live && !info.ReadOnly && info.OpenCount > 0:
		if _, err := p.conn.Suspend(dm.Number(info.Dev), dm.SuspendOptions{}); err != nil {
			return err
		}
		defer func() {
			_, resumed := p.conn.Resume(dm.Number(info.Dev), dm.SuspendOptions{})
			err = errors.Join(err, resumed)
		}()
	}
	return p.message("create_snap %d %d", id, origin)
}

// Delete deletes a device that is not active.
func (p *pool) Delete(id uint32) error {
	err := p.message("delete %d", id)
	if errors.Is(err, syscall.ENODATA) {
		return fs.ErrNotExist
	}
	return err
}

func (p *pool) message(format string, args ...any) error {
	_, err := p.conn.Message(dm.Number(p.dev), 0, fmt.Appendf(nil, format, args...))
	return err
}

func (p *pool) thinName(id uint32) string { return fmt.Sprintf("%s%d", p.prefix(), id) }

// available is what of a space can be filled: files on a disk that is nearly full cannot
// grow.
func (p *pool) available(s space) int64 {
	if p.dataFiles[0] == "" {
		return s.free
	}
	below, err := disk.Of(p.dir)
	if err != nil {
		return s.free
	}
	return min(s.free, below.Free)
}
