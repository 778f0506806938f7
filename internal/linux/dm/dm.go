// Package dm speaks with the kernel's device mapper: block devices that are made
// of other block devices, by rules.
//
// # What device mapper is
//
// A mapped device is a block device, /dev/dm-N, with a name and perhaps a UUID. A
// table says what is behind its sectors (of 512 bytes): lines that each have a
// first sector, a length, the name of a target and the target's parameters.
//
//	0    2048 linear  /dev/sdb 0                   sectors 0 to 2047 are those of sdb
//	2048 4096 striped 2 128 /dev/sdc 0 /dev/sdd 0  the next 4096 lie on two disks in turn
//
// A target is a kernel module that knows what to do with a request: linear and
// striped send it elsewhere, crypt changes its data, thin and snapshot share
// blocks, mirror and raid write it several times, error and delay are for tests.
// Package target, beside this one, has their parameters and states as types.
//
// A device has room for two tables. Load fills the inactive one, which may fail
// and changes nothing else; Resume makes it the live one, in one step. So a device
// is changed while it is in use:
//
//	             Load                     Resume
//	(no table) --------> inactive table -----------> live table
//	                         ^                          |
//	                         |  Load, Clear             | Suspend: no request is
//	                         +--------------------------+ on its way, new ones wait
//
// Resume suspends by itself when there is a new table. A device that is open, also
// by another mapped device, cannot be removed, except deferred: then it goes with
// its last user.
//
// # An example
//
//	c, err := dm.Open(dm.Options{})
//	...
//	defer c.Close()
//	info, err := c.Activate("data", dm.Table{{Length: 2048, Type: "linear", Params: []byte("/dev/sdb 0")}}, dm.CreateOptions{})
//	...
//	// /dev/mapper/data is there, and info.Dev is its number.
//	err = c.Remove(dm.Name("data"), dm.RemoveOptions{})
//
// # Names and nodes
//
// The kernel takes any name of up to 127 bytes without a slash; udev, which makes
// the nodes in /dev/mapper, knows fewer characters. Names with others are written
// with \xNN (Mangle), as dmsetup and LVM do; this package takes and gives names as
// the kernel has them, and refuses those that udev could not have.
//
// Where udev runs it makes the nodes, and each change waits until it has (see
// Cookie for how). Where it does not run, which is how containers, initial file
// systems and test machines are, this package makes them itself.
//
// # Keys
//
// The table of crypt contains a key. Parameters are therefore bytes, which Wipe
// clears; Line prints itself with zeros in the key's place; what goes through the
// kernel is wiped on both sides.
package dm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Options are those of Open.
type Options struct {
	// Dir is where the control device and the nodes are: /dev/mapper.
	Dir string
	// Udev says who makes nodes.
	Udev Udev
	// NoRules has udev do nothing for a device but its node.
	NoRules bool
	// Cookie, of NewCookie, makes a transaction: changes do not wait for udev, but
	// the caller does, once, by its Wait.
	Cookie Cookie
	// Nodes is what nodes look like that this package makes.
	Nodes NodeMode
	// Trace is called with each request, in words, before it is made.
	Trace func(string)
}

// Conn is a connection with the driver. It may be used by several goroutines.
type Conn struct {
	opts    Options
	kernel  kernel
	version Version
	nodes   *nodes
	reasons func() func() []string // tests have another log
}

// Version is the version of a driver or target: major, minor, patch level.
type Version [3]uint32

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// less reports whether v is before major 4, minor.
func (v Version) less(minor uint32) bool { return v[0] < 4 || v[0] == 4 && v[1] < minor }

// defaultDir is where all others look, too.
const defaultDir = "/dev/mapper"

// Open opens the control device, for which it makes the node if there is none. The
// kernel loads its module by that.
func Open(o Options) (*Conn, error) {
	if o.Dir == "" {
		o.Dir = defaultDir
	}
	control := filepath.Join(o.Dir, controlName)
	f, err := openControl(control, 0)
	if err != nil {
		return nil, &Error{Op: OpOpen, Err: err}
	}
	dir, err := openNodes(o.Dir, o.Nodes)
	if err != nil {
		f.Close()
		return nil, &Error{Op: OpOpen, Err: err}
	}
	c := &Conn{opts: o, kernel: device{f}, nodes: dir, reasons: kernelLog}
	if err := c.checkVersion(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close gives the descriptors back. Devices stay.
func (c *Conn) Close() error { return errors.Join(c.kernel.Close(), c.nodes.Close()) }

// Driver is the version of the kernel's interface.
func (c *Conn) Driver() Version { return c.version }

// oldest is the first version of the interface that this package works with, which
// Linux 5.10 has: events of all devices in one poll, and the versions of one target.
const oldest = 43

func (c *Conn) checkVersion() error {
	r, err := c.do(&request{op: OpVersion})
	if err != nil {
		return err
	}
	defer r.wipe()
	c.version = r.version()
	if c.version[0] != 4 || c.version.less(oldest) {
		return &Error{Op: OpVersion, Err: fmt.Errorf("the kernel's interface has version %s; 4.%d or a later 4 is needed", c.version, oldest)}
	}
	return nil
}

// Numbers of the control device, since Linux 2.6.36.
const (
	controlName  = "control"
	miscMajor    = 10
	controlMinor = 236
)

// openControl opens the control device, and makes its node where nobody else did.
func openControl(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, noModule(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(miscMajor, controlMinor))); err != nil && err != unix.EEXIST {
		return nil, &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	f, err = os.OpenFile(path, os.O_RDWR|flags, 0)
	return f, noModule(err)
}

// noModule says what it means that there is a node and no device.
func noModule(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%w: the kernel has no device mapper (module dm-mod)", err)
	}
	return err
}
