package dataroot_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/dataroot"
	"github.com/tare-engine/tare/internal/dataroot/dataroottest"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image/imagetest"
)

// one is an image of one layer with files, links and a directory.
func one() (dataroottest.Image, []byte) {
	tar := imagetest.Tar([]imagetest.Member{
		{Name: "bin/"}, {Name: "bin/sh", Data: []byte("#!")}, {Name: "./usr/lib/f", Data: []byte("data")},
		{Name: "lib", Link: "usr/lib"}, {Name: "lib/through", Data: []byte("a link")}, {Name: "/absolute", Data: []byte("x")},
		{Name: strings.Repeat("long/", 60) + "name", Data: []byte("y")}, {Name: "\xff\xfe", Data: []byte("z")}, {Name: "empty"},
	})
	img := imagetest.Image{Layers: [][]byte{tar}}
	return dataroottest.Image{Config: img.Config(), Tags: []string{"one:1", "one:latest", "one@sha256:" + strings.Repeat("0", 64)}, Layers: img.Layers}, tar
}

// take reads all of a data root's images, and returns the archives of their layers.
func take(dir string) (tars [][]byte, err error) {
	root, err := dataroot.Open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, g := range root.Graphs() {
		list, err := g.Images()
		if err != nil {
			return nil, err
		}
		for _, img := range list {
			b, err := g.Config(img.ID)
			if err != nil {
				return nil, err
			}
			var c struct {
				RootFS struct {
					DiffIDs []digest.Digest `json:"diff_ids"`
				}
			}
			if err := json.Unmarshal(b, &c); err != nil {
				return nil, err
			}
			l, err := g.Layer(c.RootFS.DiffIDs[0], c.RootFS.DiffIDs[0])
			if err != nil {
				return nil, err
			}
			var out bytes.Buffer
			if err := l.WriteTar(context.Background(), &out); err != nil {
				return nil, err
			}
			tars = append(tars, out.Bytes())
		}
	}
	return tars, nil
}

func TestArchivesOfLayersAreAssembledExactly(t *testing.T) {
	for _, driver := range []string{"overlay2", "vfs"} {
		dir := t.TempDir()
		img, tar := one()
		dataroottest.Docker(t, dir, driver, img)
		got, err := take(dir)
		if err != nil || len(got) != 1 || !bytes.Equal(got[0], tar) {
			t.Errorf("%s: %d archives, %v", driver, len(got), err)
		}
	}
}

// TestImagesAreThoseThatDockerLists: the steps of a build are not among them.
func TestImagesAreThoseThatDockerLists(t *testing.T) {
	dir := t.TempDir()
	image := func(cmd string, parent digest.Digest, tags ...string) (dataroottest.Image, digest.Digest) {
		i := imagetest.Image{Change: func(c map[string]any) { c["author"] = cmd }}
		return dataroottest.Image{Config: i.Config(), Tags: tags, Parent: parent}, i.ID()
	}
	base, baseID := image("base", "", "base:1")
	step, stepID := image("step", baseID)
	built, builtID := image("built", stepID, "b/built:2", "b/built:1")
	lost, lostID := image("lost", baseID)
	dataroottest.Docker(t, dir, "overlay2", base, step, built, lost)
	root, err := dataroot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	list, err := root.Graphs()[0].Images()
	want := fmt.Sprint([]dataroot.GraphImage{{ID: lostID}, {ID: builtID, Tags: []string{"b/built:1", "b/built:2"}}, {ID: baseID, Tags: []string{"base:1"}}})
	if err != nil || fmt.Sprint(list) != want {
		t.Errorf("%v, %v, want %s", list, err, want)
	}
}

// TestHostileDataRoots: each error is the caller's and names the object.
func TestHostileDataRoots(t *testing.T) {
	const repositories, config, layer, files = "image/overlay2/repositories.json", "image/overlay2/imagedb/content/sha256/*", "image/overlay2/layerdb/sha256/*/", "overlay2/*/diff/"
	put := func(b string) func(string) error {
		return func(name string) error { return os.WriteFile(name, []byte(b), 0600) }
	}
	huge := func(name string) error { return os.Truncate(name, 1<<40) }
	link := func(name string) error { // to what would do
		if err := os.Rename(name, name+".else"); err != nil {
			return err
		}
		return os.Symlink(filepath.Base(name)+".else", name)
	}
	fifo := func(name string) error {
		if err := os.Remove(name); err != nil {
			return err
		}
		return syscall.Mkfifo(name, 0600)
	}
	dir := func(name string) error {
		if err := os.Remove(name); err != nil {
			return err
		}
		return os.Mkdir(name, 0700)
	}
	split := func(lines ...string) func(string) error {
		return func(name string) error {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			for _, l := range lines {
				if _, err := io.WriteString(z, l+"\n"); err != nil {
					return err
				}
			}
			if err := z.Close(); err != nil {
				return err
			}
			return os.WriteFile(name, b.Bytes(), 0600)
		}
	}
	shorter := func(name string) error {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		return os.Truncate(name, info.Size()-12)
	}
	file := func(name string) string {
		return fmt.Sprintf(`{"type":1,"name":%q,"size":2,"payload":"AAAAAAAAAAA="}`, name)
	}
	for _, c := range []struct {
		what, file string
		change     func(string) error
		want       string
	}{
		{"no JSON", repositories, put("{"), "repositories.json: unexpected end of JSON"},
		{"another shape", repositories, put(`{"Repositories":[]}`), "repositories.json: json: cannot unmarshal array"},
		{"no digest", repositories, put(`{"Repositories":{"a":{"a:1":"../../x"}}}`), `repositories.json: "a:1": digest "../../x"`},
		{"huge", repositories, huge, "repositories.json has more than"},
		{"a link", repositories, link, "repositories.json: not a regular file"},
		{"a FIFO", repositories, fifo, "repositories.json: not a regular file"},
		{"no list of layers", "image/overlay2/layerdb/sha256/*", os.RemoveAll, "diff: no such file"},
		{"no images", "image", os.RemoveAll, "neither Docker nor containerd"},
		{"another driver", "image/overlay2", func(name string) error { return os.Rename(name, filepath.Join(filepath.Dir(name), "zfs")) }, `storage driver "zfs"`},
		{"no configuration", config, os.Remove, "configuration: "},
		{"another configuration", config, put("{}"), "has the digest sha256:44136f"},
		{"huge configuration", config, huge, "has more than 4194304 bytes"},
		{"configuration is a directory", config, dir, "not a regular file"},
		{"another diff ID", layer + "diff", put("sha256:" + strings.Repeat("1", 64)), `diff is "sha256:1111`},
		{"huge diff ID", layer + "diff", huge, "diff has more than 1024 bytes"},
		{"no cache ID", layer + "cache-id", os.Remove, "cache-id: no such file"},
		{"cache ID leads out", layer + "cache-id", put("../../../../etc"), `cache-id is "../../../../etc"`},
		{"cache ID is a FIFO", layer + "cache-id", fifo, "cache-id: not a regular file"},
		{"no size", layer + "size", put("many"), `parsing "many"`},
		{"negative size", layer + "size", put("-1"), "size is negative"},
		{"no tar-split", layer + "tar-split.json.gz", os.Remove, "tar-split.json.gz: no such file"},
		{"tar-split is a link", layer + "tar-split.json.gz", link, "tar-split.json.gz: not a regular file"},
		{"tar-split is not packed", layer + "tar-split.json.gz", put("{}\n{}\n{}\n{}\n{}\n"), "tar-split.json.gz: gzip: invalid header"},
		{"tar-split ends early", layer + "tar-split.json.gz", shorter, "tar-split.json.gz: unexpected EOF"},
		{"tar-split has no JSON", layer + "tar-split.json.gz", split("{"), "tar-split.json.gz: unexpected end of JSON"},
		{"tar-split of another shape", layer + "tar-split.json.gz", split(`{"type":"x"}`), "tar-split.json.gz: json: cannot unmarshal string"},
		{"tar-split has a huge entry", layer + "tar-split.json.gz", split(`{"type":2,"payload":"` + strings.Repeat("A", 64<<20) + `"}`), "tar-split.json.gz: bufio.Scanner: token too long"},
		{"a name leads out", layer + "tar-split.json.gz", split(file("../../../image/overlay2/repositories.json")), "leads out of the layer"},
		{"a name leads out in the middle", layer + "tar-split.json.gz", split(file("/bin/../../x")), "leads out of the layer"},
		{"a name of nothing", layer + "tar-split.json.gz", split(file("/")), "leads out of the layer"},
		{"a name with a zero byte", layer + "tar-split.json.gz", split(file("a\x00b")), "tar-split.json.gz"},
		{"a size below zero", layer + "tar-split.json.gz", split(`{"type":1,"name":"bin/sh","size":-1}`), `"bin/sh" has 2 bytes, -1 when`},
		{"no files", "overlay2/*/diff", os.RemoveAll, "diff: no such file"},
		{"files are a link", "overlay2/*/diff", link, "diff: too many levels of symbolic links"},
		{"a file is missing", files + "bin/sh", os.Remove, "bin/sh: no such file"},
		{"a file is a link", files + "bin/sh", link, "bin/sh: not a regular file"},
		{"a file is a FIFO", files + "bin/sh", fifo, "bin/sh: not a regular file"},
		{"a file has grown", files + "bin/sh", huge, `"bin/sh" has 1099511627776 bytes, 2 when`},
		{"a file has other data", files + "bin/sh", put("!#"), `checksum failed for "bin/sh"`},
		{"the way is a link that leads out", files + "bin", func(name string) error {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
			return os.Symlink("/bin", name)
		}, "bin/sh: "},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			img, _ := one()
			dataroottest.Docker(t, dir, "overlay2", img)
			found, err := filepath.Glob(filepath.Join(dir, c.file))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			if err := c.change(found[0]); err != nil {
				t.Fatal(err)
			}
			_, err = take(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// TestWhatCannotBeReadIsNotTheCallersFault: here the directory's descriptor is
// of no use any more.
func TestWhatCannotBeReadIsNotTheCallersFault(t *testing.T) {
	dir := t.TempDir()
	img, tar := one()
	dataroottest.Docker(t, dir, "overlay2", img)
	dataroottest.Containerd(t, dir, nil, dataroottest.Name{Namespace: "default", Name: "a:1", Target: blob("x")})
	root, err := dataroot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	g, s := root.Graphs()[0], root.Stores()[0]
	diff := digest.FromBytes(tar)
	l, err := g.Layer(diff, diff)
	if err != nil || root.Close() != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"images":        func() error { _, err := g.Images(); return err },
		"configuration": func() error { _, err := g.Config(digest.FromBytes(img.Config)); return err },
		"layer":         func() error { _, err := g.Layer(diff, diff); return err },
		"archive":       func() error { return l.WriteTar(t.Context(), io.Discard) },
		"names":         func() error { _, err := s.Images(nil); return err },
		"blob":          func() error { _, err := s.Source(dataroot.StoreImage{}).Blob(t.Context(), blob("x"), 0); return err },
	}
	for what, call := range calls {
		if err := call(); !errors.Is(err, syscall.EBADF) || !errdefs.Is(err, errdefs.Internal) {
			t.Errorf("%s: %v (kind %d)", what, err, errdefs.KindOf(err))
		}
	}
}

func TestOpenRefusesWhatIsNoDirectoryOfAnEngine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{"relative": "must be absolute", file: "not a directory", "/nosuch": "/nosuch: no such file", t.TempDir(): "neither Docker nor containerd"} {
		if _, err := dataroot.Open(dir); err == nil || !strings.Contains(err.Error(), want) || !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: %v, want %s", dir, err, want)
		}
	}
}
