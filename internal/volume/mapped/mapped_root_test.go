//go:build root

package mapped

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
	"github.com/tare-engine/tare/internal/store"
	"github.com/tare-engine/tare/internal/volume"
)

const engineID = "0badcafe"

// lab has disks that can be pulled, and an engine's volumes.
type lab struct {
	*volume.Service
	t      *testing.T
	dir    string
	dm     *dm.Conn
	driver *Driver
}

// newLab fails the test if something is left in the kernel at its end.
func newLab(t *testing.T) *lab {
	t.Helper()
	c, err := dm.Open(dm.Options{Udev: dm.UdevOff})
	if err != nil {
		t.Skip("this kernel has no device mapper: ", err)
	}
	t.Cleanup(func() { c.Close() })
	l := &lab{t: t, dir: t.TempDir(), dm: c}
	t.Cleanup(func() {
		all, err := c.List()
		if err != nil {
			t.Error(err)
		}
		for _, d := range all {
			if strings.HasPrefix(d.Name, "tare-") {
				t.Errorf("device left: %s", d.Name)
				c.Remove(dm.Name(d.Name), dm.RemoveOptions{Deferred: true})
			}
		}
	})
	l.start()
	return l
}

// start opens the volumes as an engine does that starts, of which the given containers
// run.
func (l *lab) start(running ...string) {
	l.t.Helper()
	l.driver = New(Config{Dir: l.dir, Engine: engineID, Store: store.New()})
	var err error
	l.Service, err = volume.Open(volume.Config{Dir: l.dir, Store: store.New(), Events: event.NewLog(), Drivers: []volume.Driver{l.driver}})
	if err != nil {
		l.t.Fatal(err)
	}
	service := l.Service
	l.t.Cleanup(service.Close)
	for _, c := range running {
		name, user, _ := strings.Cut(c, ":")
		if _, err := l.Acquire(name, user); err != nil {
			l.t.Fatal(err)
		}
		l.Adopt(name, user)
	}
	l.Settle(func(string) bool { return false })
}

// disks are block devices of so many MB, below which are others, so that they can be
// pulled.
func (l *lab) disks(n, mb int) (paths []string) {
	l.t.Helper()
	for range n {
		file := filepath.Join(l.t.TempDir(), "disk")
		if err := makeFile(file, uint64(mb)<<20/sectorSize); err != nil {
			l.t.Fatal(err)
		}
		paths = append(paths, l.disk(file, mb))
	}
	return paths
}

// disk is a device on a file, of which there may be several.
func (l *lab) disk(file string, mb int) string {
	l.t.Helper()
	f, n, err := attach(file)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { f.Close() })
	name := "disk-" + newID()
	on := dm.Table{dm.LineOf(0, uint64(mb)<<20/sectorSize, &target.Linear{Area: target.Area{Device: n.String()}})}
	if _, err := l.dm.Activate(name, on, dm.CreateOptions{}); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := l.dm.Remove(dm.Name(name), dm.RemoveOptions{Retry: true}); err != nil {
			l.t.Error(err)
		}
	})
	return "/dev/mapper/" + name
}

// pull has each access to a disk fail; plug takes it back.
func (l *lab) pull(path string) (plug func()) {
	l.t.Helper()
	ref := dm.Name(filepath.Base(path))
	_, before, err := l.dm.Table(ref, dm.Query{})
	if err != nil {
		l.t.Fatal(err)
	}
	swap := func(t dm.Table) {
		l.t.Helper()
		if err := load(l.dm, ref.Name, t); err != nil {
			l.t.Fatal(err)
		}
	}
	swap(dm.Table{dm.LineOf(0, before.Length(), &target.Error{})})
	return func() { swap(before) }
}

func (l *lab) create(name string, options ...string) (*volume.View, error) {
	o := map[string]string{}
	for _, x := range options {
		k, v, _ := strings.Cut(x, "=")
		o[k] = v
	}
	v, _, err := l.Create(l.t.Context(), volume.Request{Name: name, Driver: "dm", Options: o})
	return v, err
}

func (l *lab) mustCreate(name string, options ...string) *volume.View {
	l.t.Helper()
	v, err := l.create(name, options...)
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

// mount mounts a volume for a container, and returns where.
func (l *lab) mount(name, user string) string {
	l.t.Helper()
	if _, err := l.Acquire(name, user); err != nil {
		l.t.Fatal(err)
	}
	p, err := l.Mount(l.t.Context(), name, volume.Mounting{User: user})
	if err != nil {
		l.t.Fatal(err)
	}
	return p.Path
}

func (l *lab) unmount(name, user string) {
	l.t.Helper()
	if err := l.Unmount(name, user); err != nil {
		l.t.Error(err)
	}
	l.Release(name, user)
}

func (l *lab) remove(name string) {
	l.t.Helper()
	if err := l.Remove(name); err != nil {
		l.t.Error(err)
	}
}

// status waits until the status of a volume has something.
func (l *lab) await(name, field, want string) {
	l.t.Helper()
	var got string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		v, err := l.Inspect(l.t.Context(), name)
		if err != nil {
			l.t.Fatal(err)
		}
		if got = fmt.Sprint(v.Status[field]); got == want {
			return
		}
	}
	v, _ := l.Inspect(l.t.Context(), name)
	l.t.Fatalf("volume %s: %s is %s, want %s: %v", name, field, got, want, v.Status)
}

// content is of which files have what.
func content(i int) []byte {
	b := sha256.Sum256(fmt.Appendf(nil, "%d", i))
	return bytes.Repeat(b[:], 2048)
}

func writeFile(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func (l *lab) put(at string, i int) {
	l.t.Helper()
	if err := writeFile(filepath.Join(at, fmt.Sprint(i)), content(i)); err != nil {
		l.t.Error(err)
	}
}

// verify reads what put has written.
func (l *lab) verify(at string, n int) {
	l.t.Helper()
	for i := range n {
		if b, err := os.ReadFile(filepath.Join(at, fmt.Sprint(i))); err != nil || !bytes.Equal(b, content(i)) {
			l.t.Errorf("file %d of %s: %v, %d bytes", i, at, err, len(b))
		}
	}
}

// Volumes of each kind are made, on files and on devices, have their files after they
// have been unmounted, are in use as long as a container has them, and leave nothing.
func TestKinds(t *testing.T) {
	l := newLab(t)
	two, three := l.disks(2, 24), l.disks(3, 24)
	for i, options := range [][]string{
		{"size=16m"}, {"target=linear", "device=" + strings.Join(three, ",")},
		{"target=stripe", "size=16m", "chunk=16k"}, {"target=stripe", "legs=3", "size=16m"}, {"target=stripe", "device=" + strings.Join(three, ",")},
		{"target=mirror", "size=16m"}, {"target=mirror", "device=" + strings.Join(two, ",")},
		{"target=raid1", "size=16m", "legs=3"}, {"target=raid1", "device=" + strings.Join(two, ",")},
	} {
		name := fmt.Sprintf("kind%d", i)
		v := l.mustCreate(name, options...)
		at := l.mount(name, "one")
		if at != v.Mountpoint || l.mount(name, "two") != at {
			t.Error(at)
		}
		if list, err := os.ReadDir(at); err != nil || len(list) != 0 {
			t.Errorf("%v has %v, %v", options, list, err)
		}
		l.put(at, 0)
		if err := l.Remove(name); !errdefs.Is(err, errdefs.Conflict) {
			t.Error(err)
		}
		l.unmount(name, "one")
		l.verify(at, 1)
		l.unmount(name, "two")
		if all, _ := l.dm.List(); strings.Contains(fmt.Sprint(all), "tare-") {
			t.Errorf("%v: %v", options, all)
		}
		l.mount(name, "one")
		l.verify(at, 1)
		l.unmount(name, "one")
		l.remove(name)
	}
}

// A volume that a running container has is in use after a restart of the engine.
func TestRestart(t *testing.T) {
	l := newLab(t)
	l.mustCreate("data", "target=mirror", "size=16m")
	at := l.mount("data", "c")
	l.put(at, 0)
	l.start("data:c")
	if err := l.Remove("data"); !errdefs.Is(err, errdefs.Conflict) {
		t.Error(err)
	}
	l.verify(at, 1)
	l.start() // the container has ended meanwhile
	if all, _ := l.dm.List(); strings.Contains(fmt.Sprint(all), "tare-") {
		t.Errorf("%v", all)
	}
	l.remove("data")
}

// A device is pulled while somebody writes: nothing is lost, also if the engine is not
// there meanwhile; a new one gets all. Then the old one is pulled, and the new one alone
// has everything.
func TestPullAndReplace(t *testing.T) {
	for _, kind := range []string{"mirror", "raid1"} {
		t.Run(kind, func(t *testing.T) { pullAndReplace(t, kind) })
	}
}

func pullAndReplace(t *testing.T, kind string) {
	l := newLab(t)
	disks := l.disks(3, 24)
	l.mustCreate("data", "target="+kind, "device="+disks[0]+","+disks[1])
	at := l.mount("data", "c")
	l.put(at, 0)
	l.await("data", "Health", "ok")
	files := 1
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for ; ; files++ {
			select {
			case <-stop:
				return
			default:
				l.put(at, files)
				if files > 20 {
					os.Remove(filepath.Join(at, fmt.Sprint(files-20+1)))
				}
			}
		}
	}()
	time.Sleep(200 * time.Millisecond)
	plug := l.pull(disks[0])
	l.await("data", "Health", "degraded")
	close(stop)
	<-done
	t.Log(files, "files")
	// Plugged in again it is not taken for a good one.
	plug()
	l.unmount("data", "c")
	l.mount("data", "c")
	l.await("data", "Devices", fmt.Sprint(map[string]string{disks[0]: "failed", disks[1]: "ok"}))
	l.put(at, files)
	if err := l.Replace(t.Context(), "data", disks[0], disks[2]); err != nil {
		t.Fatal(err)
	}
	l.put(at, files+1)
	l.await("data", "Health", "ok")
	l.await("data", "Sync", "100%")
	l.pull(disks[1])
	l.put(at, files+2)
	l.await("data", "Devices", fmt.Sprint(map[string]string{disks[2]: "ok", disks[1]: "failed"}))
	l.unmount("data", "c")
	l.mount("data", "c")
	for i := max(0, files-15); i < files+3; i++ {
		if b, err := os.ReadFile(filepath.Join(at, fmt.Sprint(i))); err != nil || !bytes.Equal(b, content(i)) {
			t.Errorf("file %d: %v", i, err)
		}
	}
	l.verify(at, 1)
	l.unmount("data", "c")
	l.remove("data")
}
