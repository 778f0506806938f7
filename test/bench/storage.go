package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/btrfs"
	"github.com/tare-engine/tare/internal/layer/overlay"
	"github.com/tare-engine/tare/internal/layer/union"
	"github.com/tare-engine/tare/internal/layer/vfs"
)

const (
	manyFiles = 10_000 // of the image, in 100 directories, of 1 KB each
	bigFile   = 1 << 30
)

// storage times work on files of an image with each storage driver, beside a
// directory and an overlayfs that was mounted by hand, on file systems of their
// own.
func (b *bench) storage() error {
	for _, f := range []struct{ name, mkfs, options string }{
		{"ext4", "mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0", "loop"},
		{"xfs", "mkfs.xfs -q", "loop"},
		{"btrfs", "mkfs.btrfs -q", "loop"},
	} {
		if err := b.storageOn(f.name, f.mkfs, f.options); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

func (b *bench) storageOn(name, mkfs, options string) (err error) {
	img, dir := filepath.Join(b.tmpfs, "storage.img"), filepath.Join(b.tmpfs, "storage")
	if err := errors.Join(command("truncate", "-s", "10g", img), command("sh", "-c", mkfs+" "+img), os.MkdirAll(dir, 0o700), command("mount", "-o", options, img, dir)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, command("umount", dir), os.Remove(img)) }()
	grounds, closeAll, err := b.grounds(dir, name == "btrfs")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	return b.storageTable(name, grounds)
}

// ground is where an image's files lie and can be changed.
type ground interface {
	// fresh makes a place in which nothing has changed: of the image with many
	// files, or of that with a big one.
	fresh(big bool) (place, error)
	// apply makes a layer of a tar stream.
	apply(tar []byte) error
}

// place is one; a container.
type place struct {
	root   string
	diff   func(out io.Writer) error
	remove func() error // with all that is deleted afterwards
}

type namedGround struct {
	name string
	ground
}

// grounds are the contestants on a file system, native first.
func (b *bench) grounds(dir string, isBtrfs bool) (list []namedGround, closeAll func() error, err error) {
	var open []*driverGround
	closeAll = func() error {
		var errs []error
		for _, d := range open {
			errs = append(errs, d.Close())
		}
		return errors.Join(errs...)
	}
	native, err := newNative(filepath.Join(dir, "native"))
	if err != nil {
		return nil, closeAll, err
	}
	list = []namedGround{{"a directory", native}, {"overlayfs by hand", byHand{native}}}
	type driver struct {
		name string
		make func(root string) (layer.Driver, error)
	}
	drivers := []driver{
		{"overlay", func(root string) (layer.Driver, error) { return overlay.New(root) }},
		{"overlay, metacopy", func(root string) (layer.Driver, error) { return overlay.New(root, "overlay.metacopy=on") }},
		{"union", func(root string) (layer.Driver, error) { return union.New(filepath.Join(b.o.bin, "tare-union"), root) }},
	}
	if isBtrfs {
		drivers = append(drivers, driver{"btrfs", func(root string) (layer.Driver, error) { return btrfs.New(root) }})
	}
	drivers = append(drivers, driver{"vfs", func(root string) (layer.Driver, error) { return vfs.New(root) }})
	for _, d := range drivers {
		g, err := newDriverGround(filepath.Join(dir, strings.NewReplacer(" ", "", ",", "-").Replace(d.name)), d.make)
		if err != nil {
			return nil, closeAll, errors.Join(err, closeAll())
		}
		open = append(open, g)
		list = append(list, namedGround{d.name, g})
	}
	return list, closeAll, nil
}

// storageRow is one line of the table.
type storageRow struct {
	name string
	big  bool
	do   func(g ground, p place) error // timed
}

func storageRows(files []byte) []storageRow {
	each := func(p place, f func(path string) error) error {
		return filepath.WalkDir(p.root+"/lower/.", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			return f(path)
		})
	}
	return []storageRow{
		{"apply a layer of 10,000 files", false, func(g ground, _ place) error { return g.apply(files) }},
		{"tar -x of 10,000 files", false, func(_ ground, p place) error {
			c := exec.Command("tar", "-xf", "-", "-C", p.root)
			c.Stdin = bytes.NewReader(files)
			return c.Run()
		}},
		{"write 10,000 files of 1 KB", false, func(_ ground, p place) error { return writeMany(p.root + "/new") }},
		{"append to a file of 1 GB", true, func(_ ground, p place) error { return appendTo(p.root + "/big") }},
		{"append to 10,000 files", false, func(_ ground, p place) error { return each(p, appendTo) }},
		{"rm -r of 10,000 files", false, func(_ ground, p place) error { return os.RemoveAll(p.root + "/lower") }},
		{"chmod of 10,000 files", false, func(_ ground, p place) error {
			return each(p, func(path string) error { return os.Chmod(path, 0o600) })
		}},
		{"find (stat) of 10,000 files", false, func(_ ground, p place) error {
			return each(p, func(path string) error { _, err := os.Lstat(path); return err })
		}},
		{"read 10,000 files", false, func(_ ground, p place) error {
			return each(p, func(path string) error { _, err := os.ReadFile(path); return err })
		}},
		{"commit (diff) of 10,000 new files", false, nil},
		{"remove it and its files", false, nil},
		{"prepare, mount and remove an unchanged one", false, nil},
	}
}

// storageTable times each row for all contestants by turns: medians, and ratios to
// the directory.
func (b *bench) storageTable(name string, grounds []namedGround) error {
	rounds := max(b.o.rounds/20, 1)
	files := archiveOf("unpacked")
	fmt.Printf("| on %s, ms (ratio), median of %d |", name, rounds)
	for _, g := range grounds {
		fmt.Printf(" %s |", g.name)
	}
	fmt.Printf("\n|---|%s\n", strings.Repeat("---|", len(grounds)))
	for _, row := range storageRows(files) {
		times := make([][]time.Duration, len(grounds))
		for range rounds {
			for i, g := range grounds {
				t, err := storageRound(row, g.ground)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", g.name, row.name, err)
				}
				times[i] = append(times[i], t)
			}
		}
		fmt.Printf("| %s |", row.name)
		var base time.Duration
		for i, t := range times {
			slices.Sort(t)
			m := t[len(t)/2]
			if i == 0 {
				base = m
			}
			fmt.Printf(" %.1f (%.1f) |", ms(m), float64(m)/float64(base))
		}
		fmt.Println()
	}
	fmt.Println()
	return nil
}

// storageRound does one row once.
func storageRound(row storageRow, g ground) (time.Duration, error) {
	start := time.Now()
	p, err := g.fresh(row.big)
	if err != nil {
		return 0, err
	}
	switch {
	case strings.HasPrefix(row.name, "prepare"):
		err := p.remove()
		return time.Since(start), err
	case strings.HasPrefix(row.name, "commit"):
		err := writeMany(p.root + "/new")
		t, err2 := took(func() error { return p.diff(io.Discard) })
		return t, errors.Join(err, err2, p.remove())
	case strings.HasPrefix(row.name, "remove"):
		err := writeMany(p.root + "/new")
		t, err2 := took(p.remove)
		return t, errors.Join(err, err2)
	}
	if err := command("sync"); err != nil {
		return 0, err
	}
	t, err := took(func() error { return row.do(g, p) })
	return t, errors.Join(err, p.remove())
}

// took times one call.
func took(do func() error) (time.Duration, error) {
	start := time.Now()
	err := do()
	return time.Since(start), err
}

func writeMany(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	data := bytes.Repeat([]byte("x"), 1024)
	for i := range manyFiles {
		sub := filepath.Join(dir, strconv.Itoa(i/100))
		if i%100 == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(i%100)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func appendTo(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("y"))
	return errors.Join(err, f.Close())
}

// archiveOf has the many files below a directory.
func archiveOf(dir string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	data := bytes.Repeat([]byte("x"), 1024)
	put := func(h tar.Header, data []byte) {
		h.ModTime = time.Unix(1700000000, 0)
		_ = w.WriteHeader(&h) // into memory
		_, _ = w.Write(data)
	}
	put(tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	for i := range manyFiles {
		sub := dir + "/" + strconv.Itoa(i/100)
		if i%100 == 0 {
			put(tar.Header{Name: sub + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
		}
		put(tar.Header{Name: sub + "/" + strconv.Itoa(i%100), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}, data)
	}
	_ = w.Close()
	return b.Bytes()
}

// bigArchive has one file of bytes that are no hole.
func bigArchive() io.Reader {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Mode: 0o644, Size: bigFile, ModTime: time.Unix(1700000000, 0)})
		block := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
		for n := 0; n < bigFile && err == nil; n += len(block) {
			_, err = t.Write(block)
		}
		w.CloseWithError(errors.Join(err, t.Close()))
	}()
	return r
}

// native is a directory with the files of the images.
type native struct {
	dir string
	n   int
}

func newNative(dir string) (*native, error) {
	n := &native{dir: dir}
	for image, r := range map[string]io.Reader{"many": bytes.NewReader(archiveOf("lower")), "one": bigArchive()} {
		c := exec.Command("tar", "-xf", "-", "-C", filepath.Join(dir, image))
		c.Stdin = r
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, image), 0o755), c.Run()); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *native) image(big bool) string {
	if big {
		return filepath.Join(n.dir, "one")
	}
	return filepath.Join(n.dir, "many")
}

func (n *native) next() string {
	n.n++
	return filepath.Join(n.dir, strconv.Itoa(n.n))
}

func (n *native) fresh(big bool) (place, error) {
	root := n.next()
	p := place{root, func(out io.Writer) error {
		c := exec.Command("tar", "-cf", "-", "-C", root, "new")
		c.Stdout = out
		return c.Run()
	}, func() error { return os.RemoveAll(root) }}
	return p, command("cp", "-a", n.image(big), root)
}

func (n *native) apply(b []byte) error {
	dir := n.next()
	c := exec.Command("tar", "-xf", "-", "-C", dir)
	c.Stdin = bytes.NewReader(b)
	if err := errors.Join(os.Mkdir(dir, 0o755), c.Run(), command("sync", "-f", dir)); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// byHand is overlayfs on the native directories.
type byHand struct{ *native }

func (h byHand) fresh(big bool) (place, error) {
	dir := h.next()
	upper, work, root := dir+"/u", dir+"/w", dir+"/m"
	for _, d := range []string{dir, upper, work, root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return place{}, err
		}
	}
	p := place{root, func(out io.Writer) error {
		c := exec.Command("tar", "-cf", "-", "-C", upper, ".")
		c.Stdout = out
		return c.Run()
	}, func() error { return errors.Join(command("umount", root), os.RemoveAll(dir)) }}
	return p, command("mount", "-t", "overlay", "overlay", "-o", "lowerdir="+h.image(big)+",upperdir="+upper+",workdir="+work, root)
}

// driverGround is a storage driver of ours.
type driverGround struct {
	*layer.Service
	root      string
	n         int
	many, one layer.ChainID
}

func newDriverGround(root string, open func(string) (layer.Driver, error)) (*driverGround, error) {
	d, err := open(root)
	if err != nil {
		return nil, err
	}
	s, err := layer.Open(layer.Config{Root: root, Driver: d})
	if err != nil {
		return nil, err
	}
	g := &driverGround{Service: s, root: root}
	files := archiveOf("lower")
	if g.many, err = s.Apply(context.Background(), "", digest.FromBytes(files), bytes.NewReader(files)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	big, err := digest.FromReader(bigArchive())
	if err == nil {
		g.one, err = s.Apply(context.Background(), "", big, bigArchive())
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return g, nil
}

func (g *driverGround) fresh(big bool) (place, error) {
	ctx := context.Background()
	g.n++
	id, chain := "c"+strconv.Itoa(g.n), g.many
	if big {
		chain = g.one
	}
	if err := g.Prepare(ctx, id, chain, layer.Options{}); err != nil {
		return place{}, err
	}
	m, err := g.Mount(ctx, id, nil)
	if err != nil {
		return place{}, err
	}
	return place{
		fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), m.Fd()),
		func(out io.Writer) error { return g.Diff(ctx, id, nil, out) },
		func() error { return errors.Join(m.Close(), g.Remove(ctx, id), g.swept()) },
	}, nil
}

// swept waits until what was removed is deleted.
func (g *driverGround) swept() error {
	for {
		left, err := os.ReadDir(filepath.Join(g.root, "trash"))
		if err != nil || len(left) == 0 {
			return err
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func (g *driverGround) apply(b []byte) error {
	id, err := g.Apply(context.Background(), g.many, digest.FromBytes(b), bytes.NewReader(b))
	return errors.Join(err, g.RemoveChain(id), g.swept())
}
