//go:build root && failpoint

package crash

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// A power cut keeps what a file system has handed to its disk, and loses what
// is in memory only. The disk here is a file on XFS, which copies it by
// reference in one step while it is written to: the copy is the disk as it
// would have been found after a cut at that moment.
//
//	BOX/host.img        XFS, mounted on BOX/host
//	BOX/host/disk.img   ext4, mounted on BOX/data
//	BOX/host/cut.img    the disk at the last cut
//
// What the cache of a drive may lose is not modelled.

// onDisk gives the box, which has no engine yet, a disk for its data.
func (b *box) onDisk() {
	b.t.Helper()
	b.root("truncate", "-s", "2G", b.path("host.img"))
	b.root("mkfs.xfs", "-q", "-m", "reflink=1", b.path("host.img"))
	b.root("mkdir", b.path("host"), b.path("data"))
	b.root("mount", "-o", "loop", b.path("host.img"), b.path("host"))
	b.mounts = append(b.mounts, b.path("host"))
	b.root("truncate", "-s", "512M", b.path("host/disk.img"))
	b.root("mkfs.ext4", "-q", b.path("host/disk.img"))
	b.plug()
	b.losesWhatIsNotSynced()
}

// plug mounts the disk. The options have the file system write as late as it
// may, and not guess which renames its users want on disk.
func (b *box) plug() {
	b.t.Helper()
	b.root("mount", "-o", "loop,commit=600,noauto_da_alloc", b.path("host/disk.img"), b.path("data"))
	b.mounts = append(b.mounts, b.path("data"))
}

// unplug unmounts the disk and what it lies on, or the disk only. Processes that
// have just been killed may hold a mount for a moment.
func (b *box) unplug(all bool) {
	b.t.Helper()
	for len(b.mounts) > 1 || all && len(b.mounts) > 0 {
		last := b.mounts[len(b.mounts)-1]
		var out []byte
		err := errors.New("never tried")
		b.soon(func() bool {
			out, err = exec.Command("umount", last).CombinedOutput()
			return err == nil
		})
		if err != nil {
			b.t.Fatalf("umount %s: %v: %s", last, err, out)
		}
		b.mounts = b.mounts[:len(b.mounts)-1]
	}
}

// cut keeps the disk as it is. It may be called beside the test.
func (b *box) cut() {
	out, err := exec.Command("cp", "--reflink=always", b.path("host/disk.img"), b.path("host/cut.img")).CombinedOutput()
	if err != nil {
		b.t.Errorf("cut: %v: %s", err, out)
	}
}

// takeCut has the disk be as it was at the last cut.
func (b *box) takeCut() {
	b.t.Helper()
	b.unplug(false)
	b.root("mv", b.path("host/cut.img"), b.path("host/disk.img"))
	b.plug()
}

// boot starts the engine with the disk as the last cut found it, and with nothing
// that was in memory.
func (b *box) boot() {
	b.t.Helper()
	b.kill()
	b.endAll()
	b.removeGroups()
	b.uninstall()
	b.unmountBelow(b.path("data"))
	b.root("rm", "-rf", b.path("run"))
	b.takeCut()
	b.rebooted = true
	b.up()
}

// removeGroups removes the control groups of processes that have ended. One is busy
// until their parent has asked after them.
func (b *box) removeGroups() {
	b.t.Helper()
	b.soon(func() bool {
		deepestFirst := slices.Backward(slices.Sorted(maps.Keys(b.groups())))
		for _, g := range deepestFirst {
			os.Remove(g)
		}
		return len(b.groups()) == 0
	})
	if left := b.groups(); len(left) > 0 {
		b.t.Errorf("control groups that cannot be removed: %v", left)
	}
}

// unmountBelow ends what is mounted below a directory: images, and files of volumes
// that were in use. What that writes goes to the disk that is about to be replaced.
func (b *box) unmountBelow(dir string) {
	b.t.Helper()
	list, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		b.t.Fatal(err)
	}
	lines := strings.Split(string(list), "\n")
	for _, line := range slices.Backward(lines) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			b.root("umount", f[4])
		}
	}
}

// losesWhatIsNotSynced is the control: after a cut a file is whole that was
// synced, and another, written before it, is not.
func (b *box) losesWhatIsNotSynced() {
	b.t.Helper()
	content := bytes.Repeat([]byte("tare"), 5000)
	if err := os.WriteFile(b.path("data/unsynced"), content, 0600); err != nil {
		b.t.Fatal(err)
	}
	f, err := os.Create(b.path("data/synced"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		b.t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.t.Fatal(err)
	}
	b.cut()
	f.Close()
	b.takeCut()
	if got, err := os.ReadFile(b.path("data/synced")); err != nil || !bytes.Equal(got, content) {
		b.t.Fatalf("the cut has lost a file that was synced: %d bytes, %v", len(got), err)
	}
	if got, err := os.ReadFile(b.path("data/unsynced")); err == nil && bytes.Equal(got, content) {
		b.t.Fatal("the cut has kept a file that was not synced: it proves nothing")
	}
	b.root("rm", "-f", b.path("data/synced"), b.path("data/unsynced"))
}

// root runs a program of the host.
func (b *box) root(args ...string) {
	b.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// TestPowerCuts cuts the power in the middle of each operation, and right after
// it was acknowledged: then nothing else has had the disk written.
func TestPowerCuts(t *testing.T) {
	for _, op := range operations {
		if slices.Contains([]string{"start with a volume of a plugin", "stop with a volume of a plugin"}, op.name) { // what lasts of them is the plugin's
			continue
		}
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			b.onDisk()
			b.up()
			b.undisturbed(op)
			base := b.snapshot()
			t.Run("in it", func(t *testing.T) { b.powerCut(t, op, base, true) })
			t.Run("after it", func(t *testing.T) { b.powerCut(t, op, base, false) })
			b.t = t
		})
	}
}

// powerCut runs the operation, cuts the power, and looks at what the next boot
// finds.
func (b *box) powerCut(t *testing.T, op operation, base []string, within bool) {
	b.t, b.rebooted = t, false
	b.up()
	if op.prepare != nil {
		op.prepare(b)
	}
	acknowledged, await := true, func() {}
	if within {
		acknowledged, await = b.cutWithin(op)
	} else {
		if err := op.do(b); err != nil {
			t.Fatalf("%v\n%s", err, b.tail())
		}
		b.cut()
	}
	b.boot()
	await() // it may have waited for the engine to come back
	b.sound()
	op.verify(b, acknowledged)
	b.clear()
	b.settled(base)
	if t.Failed() {
		t.Log(b.story())
	}
}

// cutWithin cuts at a random moment of the operation and reports whether it was
// acknowledged before. The client goes on waiting until awaited.
func (b *box) cutWithin(op operation) (acknowledged bool, await func()) {
	done := make(chan error, 1)
	go func() { done <- op.do(b) }()
	moment := time.NewTimer(rand.N(b.took))
	defer moment.Stop()
	select {
	case err := <-done:
		acknowledged = err == nil
		done <- err
	case <-moment.C:
	}
	b.cut()
	return acknowledged, func() { <-done }
}

// sound checks what holds of all images after any cut.
func (b *box) sound() {
	b.t.Helper()
	for _, args := range [][]string{{"image", "ls"}, {"ps", "-a"}, {"system", "df", "-v"}, {"image", "verify"}} {
		if b.damaged && args[1] == "verify" {
			continue
		}
		if out, err := b.tare(args...); err != nil {
			b.t.Errorf("%v\n%s\n%s", err, out, b.tail())
		}
	}
	for _, empty := range []string{"data/content/staging", "data/content/ingest", "data/layers/overlay/staging"} {
		if left, err := os.ReadDir(b.path(empty)); err == nil && len(left) > 0 {
			b.t.Errorf("after the boot %s holds %v", empty, left)
		}
	}
}
