//go:build root

package mapped

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/mkfs"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/volume"
)

// A snapshot is what the volume was; merged back the volume is so again, and the snapshot
// stays.
func TestSnapshots(t *testing.T) {
	l := newLab(t)
	l.mustCreate("data", "target=mirror", "size=16m")
	at := l.mount("data", "c")
	l.put(at, 0)
	if _, err := l.TakeSnapshot(t.Context(), "data", "early"); !errdefs.Is(err, errdefs.Conflict) {
		t.Error(err)
	}
	l.unmount("data", "c")
	take := func(name string) {
		t.Helper()
		if _, err := l.TakeSnapshot(t.Context(), "data", name); err != nil {
			t.Fatal(err)
		}
	}
	change := func(i int) {
		l.mount("data", "c")
		l.put(at, i)
		if err := writeFile(filepath.Join(at, "0"), content(100+i)); err != nil {
			t.Error(err)
		}
		l.unmount("data", "c")
	}
	take("first")
	change(1)
	take("second")
	change(2)
	l.mount("data", "c")
	v, err := l.Inspect(t.Context(), "data")
	if all, _ := v.Status["Snapshots"].(map[string]string); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", v.Status, err)
	}
	if err := l.Rollback(t.Context(), "data", "first"); !errdefs.Is(err, errdefs.Conflict) {
		t.Error(err)
	}
	if err := l.RemoveSnapshot("data", "first"); !errdefs.Is(err, errdefs.Conflict) {
		t.Error(err)
	}
	l.unmount("data", "c")
	want := func(zero int, others ...int) {
		t.Helper()
		l.mount("data", "c")
		defer l.unmount("data", "c")
		if b, err := os.ReadFile(filepath.Join(at, "0")); err != nil || !bytes.Equal(b, content(zero)) {
			t.Errorf("file 0 is not of %d, %v", zero, err)
		}
		for i := 1; i < 3; i++ {
			_, err := os.Stat(filepath.Join(at, fmt.Sprint(i)))
			if has := strings.Contains(fmt.Sprint(others), fmt.Sprint(i)); has != (err == nil) {
				t.Errorf("file %d: %v, want it: %v", i, err, has)
			}
		}
	}
	for range 2 {
		if err := l.Rollback(t.Context(), "data", "first"); err != nil {
			t.Fatal(err)
		}
		want(0)
		if err := l.Rollback(t.Context(), "data", "second"); err != nil {
			t.Fatal(err)
		}
		want(101, 1)
	}
	if err := errors.Join(l.RemoveSnapshot("data", "first"), l.RemoveSnapshot("data", "second")); err != nil {
		t.Error(err)
	}
	want(101, 1)
	l.remove("data")
}

// A volume that begins as a copy of a device does not change that.
func TestSnapshotOfADevice(t *testing.T) {
	l := newLab(t)
	disk := l.disks(1, 24)[0]
	if _, err := l.create("none", "target=snapshot", "device="+disk); err == nil || !strings.Contains(err.Error(), "neither ext4 nor xfs") {
		t.Error(err)
	}
	golden(t, disk)
	for _, name := range []string{"one", "two"} {
		l.mustCreate(name, "target=snapshot", "device="+disk)
	}
	for i, name := range []string{"one", "two"} {
		at := l.mount(name, "c")
		l.verify(at, 1)
		l.put(at, i+1)
	}
	for _, name := range []string{"one", "two"} {
		l.unmount(name, "c")
		l.remove(name)
	}
}

// What fails leaves nothing, and says what is wrong with which device.
func TestErrors(t *testing.T) {
	l := newLab(t)
	disks := l.disks(3, 24)
	small := l.disks(1, 8)[0]
	l.mustCreate("other", "device="+disks[0])
	golden(t, disks[1])
	mounted := t.TempDir()
	if err := mountFS("ext4", disks[1], mounted); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(mounted, 0)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]string{
		"device=/dev/nosuch": "open /dev/nosuch: no such file",
		"device=" + file:     "open " + file + ": it is no block device",
		"device=/dev/null":   "open /dev/null: it is no block device",
		"device=" + small:    "device " + small + " is too small: it has 8388608 bytes",
		"device=" + disks[0]: "device " + disks[0] + " is in use by another volume",
		"device=" + disks[1]: "open " + disks[1] + ": it is busy: mounted",
		"target=mirror device=" + disks[2] + "," + disks[0]:             "target mirror: device " + disks[0] + " is in use",
		"target=multipath device=" + disks[2] + "," + l.disks(1, 24)[0]: "lead to different disks",
		"size=30m device=" + disks[2]:                                   "the devices have room for",
		"fs=xfs device=" + disks[2]:                                     "xfs needs",
	} {
		_, err := l.create("wrong", strings.Fields(options)...)
		if err == nil || !strings.Contains(err.Error(), want) || errdefs.KindOf(err) == errdefs.Internal {
			t.Errorf("%s: %v (kind %d)", options, err, errdefs.KindOf(err))
		}
	}
	syscall.Unmount(mounted, 0)
	if _, err := l.create("wrong", "device="+disks[1]); err == nil || !strings.Contains(err.Error(), "has data: say -o force=true") {
		t.Error(err)
	}
	l.mustCreate("forced", "device="+disks[1], "force=true")
	l.mustCreate("free", "device="+disks[2]) // it has no mark of what failed
	// A device of a volume that leads elsewhere, or is not there.
	plug := l.pull(disks[2])
	if _, err := l.Mount(t.Context(), "free", mountingOf("c")); err == nil || !strings.Contains(err.Error(), "target linear on "+disks[2]) {
		t.Error(err)
	}
	plug()
	if list, err := os.ReadDir(l.dir); err != nil || len(list) != 3 {
		t.Errorf("%v, %v", list, err)
	}
	for _, name := range []string{"other", "forced", "free"} {
		l.remove(name)
	}
	for _, path := range disks {
		l.mustCreate("next", "device="+path)
		l.remove("next")
	}
}

// Requests go on over the other way.
func TestMultipath(t *testing.T) {
	l := newLab(t)
	file := filepath.Join(t.TempDir(), "disk")
	if err := makeFile(file, 24<<20/sectorSize); err != nil {
		t.Fatal(err)
	}
	paths := []string{l.disk(file, 24), l.disk(file, 24), l.disk(file, 24)}
	l.mustCreate("data", "target=multipath", "device="+paths[0]+","+paths[1])
	at := l.mount("data", "c")
	l.put(at, 0)
	plug := l.pull(paths[0])
	for i := range 5 {
		l.put(at, i)
	}
	l.verify(at, 5)
	state := func(a, b string) string { return fmt.Sprint(map[string]string{paths[0]: a, paths[1]: b}) }
	l.await("data", "Devices", state("failed", "ok"))
	l.await("data", "Health", "degraded")
	plug()
	if err := l.Replace(t.Context(), "data", paths[0], ""); err != nil {
		t.Fatal(err)
	}
	l.await("data", "Devices", state("ok", "ok"))
	if err := l.Replace(t.Context(), "data", paths[0], l.disks(1, 24)[0]); err == nil || !strings.Contains(err.Error(), "leads to another disk") {
		t.Error(err)
	}
	if err := l.Replace(t.Context(), "data", paths[0], paths[2]); err != nil {
		t.Fatal(err)
	}
	l.pull(paths[1])
	l.put(at, 5)
	l.verify(at, 6)
	l.unmount("data", "c")
	l.remove("data")
}

// The volume grows while it is used, on files and on devices.
func TestGrow(t *testing.T) {
	l := newLab(t)
	disks := l.disks(3, 48)
	for i, options := range [][]string{
		{"size=16m"}, {"device=" + disks[0], "size=16m"}, {"target=stripe", "size=16m"}, {"target=mirror", "size=16m"},
		{"target=raid1", "device=" + disks[1] + "," + disks[2], "size=16m"}, {"target=crypt", "size=16m", "keyfile=" + keyFile(t, 64)},
	} {
		name := fmt.Sprintf("grow%d", i)
		l.mustCreate(name, options...)
		at := l.mount(name, "c")
		l.put(at, 0)
		if err := l.Resize(t.Context(), name, 40<<20); err != nil {
			t.Errorf("%v: %v", options, err)
		}
		if err := writeFile(filepath.Join(at, "large"), make([]byte, 24<<20)); err != nil {
			t.Errorf("%v: %v", options, err)
		}
		os.Remove(filepath.Join(at, "large"))
		l.put(at, 1)
		l.verify(at, 2)
		l.unmount(name, "c")
		l.mount(name, "c")
		l.verify(at, 2)
		var st syscall.Statfs_t
		if err := syscall.Statfs(at, &st); err != nil || st.Blocks*uint64(st.Bsize) < 30<<20 {
			t.Errorf("%v: %+v", options, st)
		}
		for size, want := range map[int64]string{16 << 20: "it can only grow", 400 << 20: "is too small"} {
			err := l.Resize(t.Context(), name, size)
			if strings.Contains(fmt.Sprint(options), "device") || size < 40<<20 {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v to %d: %v", options, size, err)
				}
			}
		}
		l.unmount(name, "c")
		l.remove(name)
	}
}

func golden(t *testing.T, disk string) {
	t.Helper()
	at := t.TempDir()
	if err := errors.Join(mkfsExt4(t, disk), mountFS("ext4", disk, at), writeFile(filepath.Join(at, "0"), content(0)), syscall.Unmount(at, 0)); err != nil {
		t.Fatal(err)
	}
}

// A device with no key, a wrong one, or one that others can read is not mounted; its data
// is nowhere in clear.
func TestCrypt(t *testing.T) {
	l := newLab(t)
	key := keyFile(t, 64)
	l.mustCreate("data", "target=crypt", "size=16m", "keyfile="+key)
	at := l.mount("data", "c")
	l.put(at, 0)
	l.unmount("data", "c")
	legs, err := filepath.Glob(l.dir + "/data/leg-*")
	if err != nil || len(legs) != 1 {
		t.Fatal(legs, err)
	}
	if b, err := os.ReadFile(legs[0]); err != nil || bytes.Contains(b, content(0)[:64]) {
		t.Errorf("the data is in clear: %v", err)
	}
	good, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	l.nowhere("data", good)
	wrong := func(want string) {
		t.Helper()
		if _, err := l.Mount(t.Context(), "data", mountingOf("c")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	os.WriteFile(key, bytes.Repeat([]byte{1}, 64), 0o600)
	wrong("keyfile " + key + ": the key is wrong")
	os.WriteFile(key, good, 0o600)
	os.Chmod(key, 0o640)
	wrong("keyfile " + key + " may be read by others (mode 0640): chmod 600")
	os.Remove(key)
	wrong("open " + key + ": no such file")
	os.WriteFile(key, good, 0o600)
	l.mount("data", "c")
	l.verify(at, 1)
	l.unmount("data", "c")
	l.remove("data")
	for n, want := range map[int]string{63: "has 63 bytes", 100: "it needs 64"} {
		if _, err := l.create("bad", "target=crypt", "size=16m", "keyfile="+keyFile(t, n)); err == nil || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
}

// A key that somebody brings is the kernel's until it is taken away.
func TestUnlock(t *testing.T) {
	l := newLab(t)
	l.mustCreate("data", "target=crypt", "size=16m")
	locked := func() {
		t.Helper()
		if _, err := l.Mount(t.Context(), "data", mountingOf("c")); !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "the volume is locked") {
			t.Error(err)
		}
		l.await("data", "Key", "absent")
	}
	locked()
	good, err := os.ReadFile(keyFile(t, 64))
	if err != nil {
		t.Fatal(err)
	}
	unlock := func(key []byte) error { return l.Unlock(t.Context(), "data", bytes.Clone(key)) }
	if err := unlock(good); err != nil {
		t.Fatal(err)
	}
	at := l.mount("data", "c")
	l.put(at, 0)
	if err := l.Lock("data"); !errdefs.Is(err, errdefs.Conflict) {
		t.Error(err)
	}
	l.start("data:c") // the kernel has it over a restart
	l.await("data", "Key", "in the kernel")
	l.unmount("data", "c")
	l.mount("data", "d")
	l.verify(at, 1)
	l.unmount("data", "d")
	l.nowhere("data", good)
	if err := l.Lock("data"); err != nil {
		t.Error(err)
	}
	locked()
	if err := unlock(bytes.Repeat([]byte{1}, 64)); !errdefs.Is(err, errdefs.Forbidden) {
		t.Error(err)
	}
	locked()
	if err := unlock(good); err != nil {
		t.Error(err)
	}
	l.mount("data", "c")
	l.verify(at, 1)
	l.unmount("data", "c")
	l.remove("data")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // the kernel collects keys beside
		b, err := os.ReadFile("/proc/keys")
		if err != nil || !bytes.Contains(b, []byte("tare:"+engineID)) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the key is there: %s", b)
		}
	}
}

// nowhere fails the test if a key is in what is written of a volume, or in its status.
func (l *lab) nowhere(name string, key []byte) {
	l.t.Helper()
	v, err := l.Inspect(l.t.Context(), name)
	if err != nil {
		l.t.Fatal(err)
	}
	hex := fmt.Sprintf("%x", key)
	if text := fmt.Sprintf("%+v", v); strings.Contains(text, hex) || strings.Contains(text, string(key)) {
		l.t.Errorf("the key is in %s", text)
	}
	err = filepath.WalkDir(filepath.Join(l.dir, name), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if bytes.Contains(b, key) || bytes.Contains(b, []byte(hex)) {
			l.t.Errorf("the key is in %s", p)
		}
		return err
	})
	if err != nil {
		l.t.Error(err)
	}
}

func keyFile(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	b := make([]byte, n)
	f, err := os.Open("/dev/urandom")
	if err == nil {
		_, err = f.Read(b)
		f.Close()
	}
	if err := errors.Join(err, os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func mkfsExt4(t *testing.T, disk string) error { return mkfs.Make(t.Context(), "ext4", disk) }

func mountingOf(user string) volume.Mounting { return volume.Mounting{User: user} }

// What somebody still writes after the volume was unmounted, as the end of a container
// does, is saved to snapshots.
func TestSnapshotOfALateWriter(t *testing.T) {
	l := newLab(t)
	l.mustCreate("data", "size=16m")
	at := l.mount("data", "c")
	l.put(at, 0)
	l.unmount("data", "c")
	if _, err := l.TakeSnapshot(t.Context(), "data", "snap"); err != nil {
		t.Fatal(err)
	}
	l.mount("data", "c")
	late, err := mount.Clone(at, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/self/fd/%d", late.Fd())
	l.unmount("data", "c")
	if err := l.Rollback(t.Context(), "data", "snap"); !errdefs.Is(err, errdefs.Unavailable) {
		t.Error(err)
	}
	if err := writeFile(filepath.Join(dir, "0"), content(7)); err != nil {
		t.Error(err)
	}
	late.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := l.Rollback(t.Context(), "data", "snap")
		if err == nil {
			break
		}
		if !errdefs.Is(err, errdefs.Unavailable) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	l.mount("data", "c")
	l.verify(at, 1)
	l.unmount("data", "c")
	l.remove("data")
}

// After an unclean end a mirror goes on with the leg that is there, whichever it is.
func TestMirrorWithoutItsFirstLegAfterAnUncleanEnd(t *testing.T) {
	l := newLab(t)
	disks := l.disks(2, 24)
	l.mustCreate("data", "target=mirror", "device="+disks[0]+","+disks[1])
	l.put(l.mount("data", "c"), 0)
	l.unmount("data", "c")
	dir := filepath.Join(l.dir, "data")
	st, err := get(dir)
	if err != nil || st.Open {
		t.Fatalf("%+v, %v", st, err)
	}
	st.Open = true // as a power cut leaves it
	if err := l.driver.put(dir, st); err != nil {
		t.Fatal(err)
	}
	plug := l.pull(disks[0])
	l.verify(l.mount("data", "c"), 1)
	l.await("data", "Health", "degraded")
	l.unmount("data", "c")
	plug()
	l.remove("data")
}
