//go:build root

package devicemapper

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	blockdev "github.com/tare-engine/tare/internal/linux/device"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
)

// TestPowerCut takes the disk away, below the data root and the pool in it, at random
// moments of a workload: from then on what is written goes nowhere. What was in memory
// is lost; pool and records agree, and what was synced is there. The number of cuts is
// TARE_THIN_CUTS.
func TestPowerCut(t *testing.T) {
	c := need(t)
	if testing.Short() {
		t.Skip("not in the short form")
	}
	cuts := 2
	if n, err := strconv.Atoi(os.Getenv("TARE_THIN_CUTS")); err == nil {
		cuts = n
	}
	d := newCutDisk(t, c)
	s, _ := service(t, d.root)
	m, path := container(t, s, "kept", image(t, s, 10), 0)
	if err := errors.Join(write(path+"/kept", 3), m.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	d.drain()
	bad := 0
	for i := range cuts {
		if !t.Run(fmt.Sprint(i), func(t *testing.T) { d.cutOne(t) }) {
			bad++
		}
	}
	fmt.Printf("SOAK | power cuts with storage driver devicemapper | %d | %d | |\n", cuts, bad)
}

// cutDisk is a disk with an ext4 that has the data root.
type cutDisk struct {
	t      *testing.T
	conn   *dm.Conn
	number dm.Dev // of what is below
	length uint64 // sectors
	root   string
}

const cutName = "tare-test-cut"

func newCutDisk(t *testing.T, c *dm.Conn) *cutDisk {
	t.Helper()
	_, below := loopDevice(t, 2<<30)
	n, err := blockdev.At(below.Name())
	if err != nil {
		t.Fatal(err)
	}
	d := &cutDisk{t: t, conn: c, number: dm.Dev{Major: uint32(n.Major), Minor: uint32(n.Minor)}, length: 2 << 30 / sector, root: filepath.Join(t.TempDir(), "root")}
	if _, err := c.Activate(cutName, d.whole(), dm.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(dm.Name(cutName), dm.RemoveOptions{Retry: true}); err != nil {
			t.Error(err)
		}
	})
	if out, err := exec.Command("mkfs.ext4", "-q", nodePath(cutName)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Mkdir(d.root, 0o700); err != nil {
		t.Fatal(err)
	}
	d.mount()
	t.Cleanup(d.unmount)
	return d
}

func (d *cutDisk) table(tg target.Target) dm.Table {
	return dm.Table{{Length: d.length, Type: tg.Type(), Params: tg.AppendParams(nil)}}
}

func (d *cutDisk) whole() dm.Table { return d.table(&target.Linear{Area: d.area()}) }

func (d *cutDisk) area() target.Area { return target.Area{Device: d.number.String()} }

// become exchanges what is below the file system, without a write to it.
func (d *cutDisk) become(table dm.Table) {
	d.t.Helper()
	_, err := d.conn.Load(dm.Name(cutName), table, dm.LoadOptions{})
	if err == nil {
		_, err = d.conn.Resume(dm.Name(cutName), dm.SuspendOptions{NoFlush: true, NoLockFS: true})
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *cutDisk) mount() {
	d.t.Helper()
	if err := syscall.Mount(nodePath(cutName), d.root, "ext4", 0, ""); err != nil {
		d.t.Fatal(err)
	}
}

// unmount ends the mount, once nothing below it is used any more.
func (d *cutDisk) unmount() {
	d.t.Helper()
	wait(d.t, "the file system to be free", func() bool { return syscall.Unmount(d.root, 0) == nil })
}

// drain waits until no device but the disk is there.
func (d *cutDisk) drain() {
	d.t.Helper()
	wait(d.t, "devices to go", func() bool { all, err := d.conn.List(); return err == nil && len(all) == 1 })
}

func (d *cutDisk) cutOne(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestWorkload$", "-test.count=1")
	cmd.Env = append(os.Environ(), workloadRoot+"="+d.root)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is at work
		t.Error(err)
	}
	time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
	d.become(d.table(&target.Flakey{Area: d.area(), Up: 0, Down: 3600, Features: target.Args{"drop_writes"}}))
	// A device that was not marked yet would stay, and no power cut leaves one.
	if err := errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait()), Uninstall(d.root)); err != nil {
		t.Error(err)
	}
	d.drain()
	d.unmount()
	d.become(d.whole())
	d.mount()

	s, driver := service(t, d.root)
	settled(t, d.root, driver)
	agreeing(t, driver)
	for p := range must(places(d.root)) {
		if _, ok := driver.ledger.find(p); !ok {
			t.Errorf("no device for %+v", p)
		}
	}
	m, path := mounted(t, s, "kept")
	if info, err := os.Stat(path + "/kept"); err != nil || info.Size() != 3*mega {
		t.Errorf("what was synced: %v, %v", info, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	recoverAll(t, driver)
	check(t, driver)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	d.drain()
}

// recoverAll mounts each device once: its file system recovers, and can be read.
func recoverAll(t *testing.T, d *Driver) {
	t.Helper()
	for _, dev := range d.ledger.all() {
		top, err := d.openDevice(dev, toRead)
		if err == nil {
			_, err = top.ReadDir(-1)
			err = errors.Join(err, top.Close())
		}
		if err != nil {
			t.Errorf("device %d: %v", dev.ID, err)
		}
	}
}

// ignoreExit leaves the errors that are not of a killed process.
func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
