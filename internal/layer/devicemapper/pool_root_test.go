//go:build root

package devicemapper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/loop"
)

const mega = 1 << 20

// service opens a store with the driver, until the test ends or close is called.
func service(t *testing.T, root string, options ...string) (*layer.Service, *Driver) {
	t.Helper()
	d := open(t, root, options...)
	s, err := layer.Open(layer.Config{Root: root, Driver: d})
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// image is a chain of one layer with a file "f" of so many bytes.
func image(t *testing.T, s *layer.Service, size int) layer.ChainID {
	t.Helper()
	b := layertest.Tar(t, layertest.File{Name: "f", Data: strings.Repeat("x", size)})
	id, err := s.Apply(t.Context(), "", digest.FromBytes(b), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mounted(t *testing.T, s *layer.Service, id string) (m *os.File, path string) {
	t.Helper()
	m, err := s.Mount(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m, fmt.Sprintf("/proc/self/fd/%d", m.Fd())
}

// container makes and mounts one.
func container(t *testing.T, s *layer.Service, id string, on layer.ChainID, size int64) (m *os.File, path string) {
	t.Helper()
	if err := s.Prepare(t.Context(), id, on, layer.Options{Size: size}); err != nil {
		t.Fatal(err)
	}
	return mounted(t, s, id)
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	u, err := disk.Of(path)
	if err != nil {
		t.Fatal(err)
	}
	return u.Bytes
}

// write writes so many megabytes, to the device.
func write(path string, megabytes int) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bytes.Repeat([]byte("0123456789abcdef"), mega/16)
	for range megabytes {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return f.Sync()
}

// check has the programs of the file system look at the devices of all containers and
// layers, which nobody has mounted.
func check(t *testing.T, d *Driver) {
	t.Helper()
	for _, dev := range d.ledger.all() {
		err := d.thins.raw(dev, func(path string) error {
			args := []string{"e2fsck", "-fn", path}
			if d.pool.set.FS == "xfs" {
				args = []string{"xfs_repair", "-n", path}
			}
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		if err != nil {
			t.Errorf("device %d: %v", dev.ID, err)
		}
	}
}

// inPool asks the pool which IDs it has, up to some that were never given, by trying
// to make them.
func inPool(t *testing.T, d *Driver) (ids []uint32) {
	t.Helper()
	d.ledger.mu.Lock()
	last := d.ledger.last
	d.ledger.mu.Unlock()
	for id := range last + 8 {
		err := d.pool.CreateThin(id)
		switch {
		case err == nil:
			err = d.pool.Delete(id)
		case errors.Is(err, fs.ErrExist):
			ids, err = append(ids, id), nil
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// agreeing fails unless the pool has the devices that there are records of.
func agreeing(t *testing.T, d *Driver) {
	t.Helper()
	var records []uint32
	for _, dev := range d.ledger.all() {
		records = append(records, dev.ID)
	}
	slices.Sort(records)
	if ids := inPool(t, d); !slices.Equal(ids, records) {
		t.Errorf("the pool has %v, records are %v", ids, records)
	}
}

// TestSizes: a container's root has the size that was asked for, at least that of the
// base, which can grow.
func TestSizes(t *testing.T) {
	need(t)
	kinds := []string{"ext4", "xfs"}
	if testing.Short() {
		kinds = kinds[:1]
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			root := t.TempDir()
			options := []string{"dm.fs=" + kind, "dm.basesize=320M", "dm.mountopt=noatime"}
			s, d := service(t, root, options...)
			chain := image(t, s, 10)
			if size, err := s.Limit(map[string]string{"size": "64M"}); err == nil || err.Error() != "devmapper: Container size cannot be smaller than "+human(d.base.Size) {
				t.Errorf("64M: %d, %v", size, err)
			}
			size, err := s.Limit(map[string]string{"size": "400M"})
			if err != nil {
				t.Fatal(err)
			}
			m, path := container(t, s, "large", chain, size)
			if got := sizeOf(t, path); got < 330*mega || got > 400*mega {
				t.Errorf("of 400M the file system has %d", got)
			}
			if err := write(path+"/big", 410); !disk.IsFull(err) {
				t.Errorf("410 MB in 400: %v", err)
			}
			if err := errors.Join(os.Remove(path+"/big"), m.Close(), s.Remove(t.Context(), "large")); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}

			s, d = service(t, root, append(options, "dm.basesize=480M")...)
			m, path = container(t, s, "later", chain, 0)
			if got := sizeOf(t, path); got < 400*mega {
				t.Errorf("on an image of before, with a larger base: %d", got)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			agreeing(t, d)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := New(root, append(small[1:len(small):len(small)], "dm.basesize=100M")...); err == nil || !strings.Contains(err.Error(), "devmapper: Base device size cannot be smaller than ") {
				t.Errorf("a smaller base: %v", err)
			}
			other := map[string]string{"ext4": "xfs", "xfs": "ext4"}[kind]
			if _, err := New(root, append(small[:len(small):len(small)], "dm.fs="+other)...); err == nil || !strings.Contains(err.Error(), `dm.fs is "`+other+`", and the pool of this data root was made with "`+kind+`"`) {
				t.Errorf("another file system: %v", err)
			}
		})
	}
}

// TestFullPool: where there is too little room nothing new is made, who runs reads
// that there is none, and after the pool has grown all is whole.
func TestFullPool(t *testing.T) {
	need(t)
	t.Run("ext4", func(t *testing.T) { testFullPool(t, "dm.fs=ext4") })
	if !testing.Short() {
		t.Run("xfs", func(t *testing.T) { testFullPool(t, "dm.fs=xfs") })
	}
}

func testFullPool(t *testing.T, kind string) {
	root := t.TempDir()
	options := []string{kind, "dm.basesize=320M"}
	s, d := service(t, root, append(options, "dm.loopdatasize=192M", "dm.min_free_space=20%")...)
	chain := image(t, s, 4*mega)
	m, path := container(t, s, "c", chain, 0)
	if err := write(path+"/kept", 20); err != nil {
		t.Fatal(err)
	}
	other, otherPath := container(t, s, "other", chain, 0)
	if err := s.Prepare(t.Context(), "stopped", chain, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if d.pool.room() != nil {
			break
		}
		if err := write(fmt.Sprintf("%s/more%d", path, i), 8); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Prepare(t.Context(), "new", chain, layer.Options{})
	for _, want := range []string{"the thin pool " + d.pool.name + " has ", " of 201.3MB left for data", "dm.min_free_space=20% has 40.27MB kept free", "remove containers or images, start the engine with a greater dm.loopdatasize"} {
		if !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("a container in a full pool: %v; want %q", err, want)
		}
	}
	tar := layertest.Tar(t, layertest.File{Name: "g"})
	if _, err := s.Apply(t.Context(), chain, digest.FromBytes(tar), bytes.NewReader(tar)); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("a layer in a full pool: %v", err)
	}
	if err := write(path+"/toomuch", 150); err == nil {
		t.Error("more was written than there is room for")
	} else {
		t.Log("a container that runs reads", err)
	}
	if m, err := s.Mount(t.Context(), "stopped", nil); err == nil {
		m.Close()
	} else if !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "the thin pool "+d.pool.name+" is full") {
		t.Errorf("the start of a container: %v", err)
	}
	var names error
	for i := range 3000 { // no data, and so nothing but what the file system has for itself
		names = errors.Join(names, os.WriteFile(fmt.Sprintf("%s/n%d", otherPath, i), nil, 0o600))
	}
	t.Log("one that makes names reads", names != nil)
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	status := fmt.Sprint(d.Status())
	if err := errors.Join(m.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}

	s, d = service(t, root, append(options, "dm.loopdatasize=512M")...)
	defer s.Close()
	if st, err := d.pool.status(); err != nil || st.Mode != "rw" || st.Data.Total != 512<<20/defaultBlockSize {
		t.Errorf("the pool that has grown: %+v, %v; before: %s", st, err, status)
	}
	m, path = mounted(t, s, "c")
	info, err := os.Stat(path + "/kept")
	if err != nil || info.Size() != 20*mega {
		t.Errorf("what was on disk: %v, %v", info, err)
	}
	b, err := os.ReadFile(path + "/kept")
	if err != nil || !bytes.Equal(b, bytes.Repeat([]byte("0123456789abcdef"), 20*mega/16)) {
		t.Errorf("what was on disk is damaged, %v", err)
	}
	if err := errors.Join(os.RemoveAll(path+"/toomuch"), write(path+"/again", 50), m.Close()); err != nil {
		t.Errorf("after that: %v", err)
	}
	for _, id := range []string{"new", "other", "stopped"} {
		m, path := container(t, s, id, chain, 0)
		if err := errors.Join(write(path+"/x", 1), m.Close()); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	agreeing(t, d)
	check(t, d)
}

// TestDevicesOutliveTheEngine: what is mounted stays when the engine goes, is taken up
// by the next one, and goes with the mount; what a kill has left frozen goes on.
func TestDevicesOutliveTheEngine(t *testing.T) {
	c := need(t)
	root := t.TempDir()
	s, d := service(t, root)
	chain := image(t, s, 10)
	m, path := container(t, s, "c", chain, 0)
	f, err := os.Create(path + "/log")
	if err != nil {
		t.Fatal(err)
	}
	dev, err := d.deviceOf(filepath.Join(root, "containers/c/rw"))
	if err != nil {
		t.Fatal(err)
	}
	device := dm.Name(d.pool.thinName(dev.ID))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("without engine"); err != nil {
		t.Error(err)
	}
	if _, err := c.Suspend(device, dm.SuspendOptions{}); err != nil { // as if it was killed in a snapshot
		t.Fatal(err)
	}

	s, d = service(t, root)
	defer s.Close()
	if info, err := c.Info(device, dm.Query{}); err != nil || info.Suspended {
		t.Errorf("%+v, %v", info, err)
	}
	again, path := mounted(t, s, "c")
	if b, err := os.ReadFile(path + "/log"); err != nil || string(b) != "without engine" {
		t.Errorf("%q, %v", b, err)
	}
	if list, err := s.Changes(t.Context(), "c", nil); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if err := s.Remove(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	wait(t, "the device to be doomed", func() bool { return len(d.doomed()) == 1 })
	if !strings.Contains(fmt.Sprint(d.Status()), "[Deferred Deleted Device Count 1]") {
		t.Error(d.Status())
	}
	if err := errors.Join(f.Sync(), f.Close(), m.Close(), again.Close()); err != nil {
		t.Error(err)
	}
	wait(t, "the device to go", func() bool {
		_, err := c.Info(device, dm.Query{})
		return len(d.doomed()) == 0 && errors.Is(err, fs.ErrNotExist)
	})
	agreeing(t, d)
}

// TestUninstall: what a kill leaves before a device is marked goes without an engine.
func TestUninstall(t *testing.T) {
	c := need(t)
	root := t.TempDir()
	if err := Uninstall(root); err != nil {
		t.Errorf("where nothing was: %v", err)
	}
	d := open(t, root)
	held, _, err := d.thins.activate(d.base, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(held.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	if all, err := c.List(); err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	if err := Uninstall(root); err != nil {
		t.Error(err)
	}
}

func wait(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited for " + what)
		}
	}
}

// loopDevice is one that is there until the test ends.
func loopDevice(t *testing.T, size int64) (file, dev *os.File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if dev, err = loop.Attach(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return f, dev
}

// TestGivenDevices: a pool on two devices, or a whole pool, is used if it has nothing
// on it, and grows with its devices.
func TestGivenDevices(t *testing.T) {
	c := need(t)
	base := []string{"dm.basesize=256M", "dm.min_free_space=1%"}
	file, data := loopDevice(t, 256*mega)
	_, metadata := loopDevice(t, 16*mega)
	given := append(base, "dm.datadev="+data.Name(), "dm.metadatadev="+metadata.Name())
	root := t.TempDir()
	d, err := New(root, given...)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(d.Status(), d.Warnings()); !strings.Contains(got, "[Data file "+data.Name()+"]") || strings.Contains(got, "loop file") || !strings.HasSuffix(got, "[]") {
		t.Error(got)
	}
	if _, err := New(t.TempDir(), given...); err == nil || !strings.Contains(err.Error(), metadata.Name()+" has something on it") {
		t.Errorf("devices with a pool: %v", err)
	}
	if err := errors.Join(d.Close(), file.Truncate(512*mega), loop.Refresh(data)); err != nil {
		t.Fatal(err)
	}
	if _, err := New(root, base...); err == nil || !strings.Contains(err.Error(), `dm.datadev is "", and the pool of this data root was made with "`+data.Name()+`"`) {
		t.Errorf("without the devices: %v", err)
	}
	if d, err = New(root, given...); err != nil {
		t.Fatal(err)
	}
	st, err := d.pool.status()
	if err != nil || st.Data.Total != 512*mega/defaultBlockSize {
		t.Errorf("a device that has grown: %+v, %v", st, err)
	}
	agreeing(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, "the devices to be free", func() bool {
		f, err := os.OpenFile(metadata.Name(), os.O_RDWR|os.O_EXCL, 0) // of a block device: nobody else has it
		return err == nil && f.Close() == nil
	})

	if _, err := metadata.WriteAt(make([]byte, 4096), 0); errors.Join(err, metadata.Sync()) != nil {
		t.Fatal(err)
	}
	table, err := d.pool.table(&underlying{data: data, metadata: metadata, size: 512 * mega})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Activate("somebodys", table, dm.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer c.Remove(dm.Name("somebodys"), dm.RemoveOptions{Retry: true})
	root = t.TempDir()
	if d, err = New(root, append(base, "dm.thinpooldev=somebodys")...); err != nil {
		t.Fatal(err)
	}
	s, err := layer.Open(layer.Config{Root: root, Driver: d})
	if err != nil {
		t.Fatal(err)
	}
	m, path := container(t, s, "c", image(t, s, 10), 0)
	if err := errors.Join(write(path+"/x", 1), m.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := New(t.TempDir(), append(base, "dm.thinpooldev=somebodys")...); err == nil || !strings.Contains(err.Error(), "the pool /dev/mapper/somebodys is in use") {
		t.Errorf("a pool of another data root: %v", err)
	}
	if _, err := c.Info(dm.Name("somebodys"), dm.Query{}); err != nil {
		t.Errorf("a pool that was given is gone: %v", err)
	}
	wait(t, "our devices to go", func() bool { all, err := c.List(); return err == nil && len(all) == 1 })
}

// workloadRoot is the data root of a process that is to be killed.
const workloadRoot = "TARE_THIN_WORKLOAD"

// TestWorkload is that process.
func TestWorkload(t *testing.T) {
	root := os.Getenv(workloadRoot)
	if root == "" {
		t.Skip("this is for TestKilledEngines")
	}
	s, _ := service(t, root)
	for i := 0; ; i++ {
		chain := image(t, s, 100*(1+i%3))
		id := fmt.Sprint("c", i%5)
		if err := s.Remove(context.Background(), id); err != nil { // of a run that was killed
			t.Fatal(err)
		}
		m, path := container(t, s, id, chain, int64(i%2)*300*mega)
		if err := write(path+"/x", 1); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.Close(), s.RemoveChain(chain), s.Remove(context.Background(), fmt.Sprint("c", (i+2)%5))); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stdout.WriteString("."); err != nil {
			t.Fatal(err)
		}
	}
}
