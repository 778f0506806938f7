//go:build root

package script

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// TestFullDiskOfImages: what brings an image meets the end of the disk in the
// middle, where nobody could know how much would be needed. It says so and leaves
// nothing; the engine goes on, and with more space it works.
func TestFullDiskOfImages(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	// Some hundred kilobytes packed.
	unfolds := registrytest.Image{Size: 20 << 20, Period: 16 << 10}
	r.Put("app", "gzip", unfolds)
	unfolds.Compression = []string{"zstd"}
	r.Put("app", "zstd", unfolds)
	r.Put("app", "layers", registrytest.Image{Layers: 3, Size: 7 << 20, Period: 16 << 10, Seed: 1})
	r.Put("app", "packed", registrytest.Image{Size: 9 << 20, Compression: []string{"none"}})
	r.Put("app", "sound", registrytest.Image{Size: 9 << 20, Seed: 2})
	e, data := onSmallDisk(t, "128M", "-m", "0")
	dir := filepath.Dir(data)
	e.load(t, "busybox.tar")
	e.output(t, "run", "--name", "changed", "busybox", "sh", "-c", "busybox yes | head -c 9000000 >/file")
	e.output(t, "export", "-o", dir+"/files.tar", "changed")
	e.output(t, "commit", "changed", "saved")
	e.output(t, "save", "-o", dir+"/saved.tar", "saved")
	e.output(t, "rmi", "saved")
	if out, err := exec.Command("gzip", "-kf", dir+"/files.tar").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	app := r.Host + "/app:"
	for _, c := range []struct {
		name string
		args []string
		free int64
		says string // in a regular expression, before what is said of the disk
	}{
		{"pull of gzip", []string{"pull", app + "gzip"}, 12 << 20, `layer [0-9a-f]{12}, [0-9.]+kB packed, needs more space: .*the files have more than [0-9]+ bytes`},
		{"pull of zstd", []string{"pull", app + "zstd"}, 12 << 20, `layer [0-9a-f]{12}, [0-9.]+kB packed, needs more space: .*the files have more than [0-9]+ bytes`},
		{"pull of layers", []string{"pull", app + "layers"}, 12 << 20, `layer [0-9a-f]{12}, [0-9.]+kB packed, needs more space: .*`},
		{"pull of as much packed", []string{"pull", app + "packed"}, 12 << 20, `layer [0-9a-f]{12}, 9\.[0-9]+MB packed, needs more space: .*`},
		{"pull of more packed", []string{"pull", app + "packed"}, 6 << 20, `the layers of .*/app:packed have 9\.[0-9]+MB, and .*/data has 6\.[0-9]+MB free`},
		{"commit", []string{"commit", "changed", "made"}, 12 << 20, `after [0-9.]+MB of the layer: write .*/data/.*|unpack layer: .*`},
		{"commit of more", []string{"commit", "changed", "made"}, 4 << 20, `after [0-9.]+MB of the layer: write .*/data/.*|unpack layer: .*|the layer has more than [0-9.]+MB`},
		{"import", []string{"import", dir + "/files.tar", "made"}, 12 << 20, `after [0-9.]+MB of the layer: write .*/data/.*|unpack layer: .*`},
		{"import of gzip", []string{"import", dir + "/files.tar.gz", "made"}, 6 << 20, `unpack layer: .*`},
		{"load", []string{"load", "-i", dir + "/saved.tar"}, 12 << 20, `unpack layer sha256:[0-9a-f]{64}: .*`},
		{"load of more", []string{"load", "-i", dir + "/saved.tar"}, 6 << 20, `write .*/data/content/staging/.*|unpack layer .*`},
	} {
		t.Run(c.name, func(t *testing.T) {
			give := leave(t, data, c.free)
			before := e.kept(t, data)
			out, err := e.try(c.args...)
			want := regexp.MustCompile("(" + c.says + `): no space left on device \(the file system mounted on ` + data + ` has [0-9.]+[kM]?B of [0-9.]+MB`)
			if err == nil || !want.MatchString(out) {
				t.Errorf("%v: %s, want %s", err, out, want)
			}
			if diff := cmp.Diff(before, e.kept(t, data)); diff != "" {
				t.Errorf("-before +after:\n%s", diff)
			}
			if got := e.output(t, "run", "--rm", "busybox", "echo", "goes on"); got != "goes on" {
				t.Errorf("%q", got)
			}
			give()
			e.output(t, c.args...)
			e.output(t, "image", "verify")
			e.output(t, "image", "prune", "-af")
		})
	}
	t.Run("repair", func(t *testing.T) { e.repairsOnFullDisk(t, data, app+"sound") })
	t.Run("save", func(t *testing.T) { e.savesToFullDisk(t, dir) })
	t.Run("names", func(t *testing.T) { e.namesOnFullDisk(t, data) })
}

func (e *engine) try(args ...string) (string, error) {
	out, err := exec.Command(e.docker, append([]string{"-H", "unix://" + e.socket}, args...)...).CombinedOutput()
	return string(out), err
}

// repairsOnFullDisk: what cannot be repaired for want of space stays as it is, and is
// repaired when there is space.
func (e *engine) repairsOnFullDisk(t *testing.T, data, image string) {
	e.output(t, "pull", image)
	blobs, err := filepath.Glob(data + "/content/blobs/sha256/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		if i, err := os.Stat(b); err != nil {
			t.Fatal(err)
		} else if i.Size() > 9<<20 {
			if err := os.WriteFile(b, []byte("damaged"), 0400); err != nil {
				t.Fatal(err)
			}
		}
	}
	give := leave(t, data, 6<<20)
	before := e.kept(t, data)
	out, err := e.try("image", "repair")
	if err == nil || !strings.Contains(out, data) || !strings.Contains(out, "no space left on device") {
		t.Errorf("%v: %s", err, out)
	}
	if diff := cmp.Diff(before, e.kept(t, data)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	give()
	e.output(t, "image", "repair")
	e.output(t, "image", "verify")
	e.output(t, "image", "prune", "-af")
}

// savesToFullDisk: half an archive is no file.
func (e *engine) savesToFullDisk(t *testing.T, dir string) {
	e.output(t, "load", "-i", dir+"/saved.tar")
	disk := dir + "/small"
	smallDisk(t, disk, "64M", "-m", "0")
	give := leave(t, disk, 4<<20)
	out, err := e.try("save", "-o", disk+"/out.tar", "saved")
	if want := regexp.MustCompile(`write ` + disk + `/out\.tar: more than [34]\.[0-9]+MB are needed: no space left on device`); err == nil || !want.MatchString(out) {
		t.Errorf("%v: %s", err, out)
	}
	if list, err := os.ReadDir(disk); err != nil || len(list) != 2 { // lost+found and the filler
		t.Errorf("%v, %v", list, err)
	}
	give()
	e.output(t, "save", "-o", disk+"/out.tar", "saved")
	e.output(t, "rmi", "saved")
	e.output(t, "load", "-i", disk+"/out.tar")
}

// namesOnFullDisk: the data base of names can grow no more. The names that were
// acknowledged are there, also for the next engine, and can be removed.
func (e *engine) namesOnFullDisk(t *testing.T, data string) {
	free := leave(t, data, 256<<10)
	want := strings.Fields(e.output(t, "images", "--format", "{{.Repository}}:{{.Tag}}"))
	const tooMany = 5000
	for i := range tooMany {
		name := fmt.Sprintf("n%d:%s", i, strings.Repeat("x", 120))
		out, err := e.try("tag", "busybox", name)
		if err != nil {
			if !strings.Contains(out, "images.db") || !strings.Contains(out, "no space left on device (the file system mounted on "+data) {
				t.Errorf("%v: %s", err, out)
			}
			t.Logf("after %d names: %s", i, out)
			break
		}
		if want = append(want, name); i == tooMany-1 {
			t.Error("there is no end")
		}
	}
	check := func() {
		t.Helper()
		got := strings.Fields(e.output(t, "images", "--format", "{{.Repository}}:{{.Tag}}"))
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-acknowledged +there:\n%s", diff)
		}
	}
	check()
	e.again(t)
	check()
	e.output(t, append([]string{"rmi"}, slices.DeleteFunc(slices.Clone(want), func(n string) bool { return n == "busybox:latest" })...)...)
	free()
	e.output(t, "tag", "busybox", "more")
}

// leave fills a disk but for so many bytes; what it returns gives them back.
func leave(t *testing.T, dir string, free int64) (give func()) {
	t.Helper()
	// What is being removed would give space back later.
	if _, err := os.Stat(dir + "/trash"); err == nil {
		if err := waitEmpty(dir + "/trash"); err != nil {
			t.Error(err)
		}
	}
	if err := syncfs.All(dir); err != nil {
		t.Fatal(err)
	}
	u, err := disk.Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := disk.Allocate(f, u.Free-free); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	}
}

// kept is all that an engine keeps, but for what is there to be given up.
func (e *engine) kept(t *testing.T, data string) []string {
	t.Helper()
	if err := waitEmpty(data + "/trash"); err != nil {
		t.Error(err)
	}
	var all []string
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Dir(path) != data+"/reserve" {
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return append(all, e.output(t, "system", "df"), e.output(t, "images", "-a"), e.output(t, "ps", "-aq"))
}
