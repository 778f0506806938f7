// Package dataroot reads the images in the data root of another engine on this
// machine, which may be running: Docker with one of its graph drivers, or
// containerd, which Docker has inside from version 29 on.
//
//	DIR/image/DRIVER/…                   Docker: names, configurations, what is known of layers (Graph)
//	DIR/overlay2/…, DIR/vfs/dir/…        its unpacked layers
//	DIR/io.containerd.…                  containerd: meta.db names manifests, which are blobs (Store)
//	DIR/containerd/daemon/io.containerd.…  the same inside Docker
//
// Nothing is written there, and nothing of it is believed: files are opened
// beneath DIR by descriptor and are to be regular files of a bounded size, and
// everything is verified by the digest that names it, here or by who takes it.
package dataroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/inroot"
)

// Root is the data root of another engine.
type Root struct {
	dir    *os.File
	graphs []*Graph
	stores []*Store
}

// Open opens the data root at an absolute path. It is closed by the caller,
// after all that came of it.
func Open(dir string) (_ *Root, err error) {
	if !filepath.IsAbs(dir) {
		return nil, errdefs.New(errdefs.InvalidArgument, "data root %.300q: the path must be absolute", dir)
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, wrong("data root", err)
	}
	r := &Root{dir: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := r.find(); err != nil {
		return nil, err
	}
	return r, nil
}

// Close closes the directory.
func (r *Root) Close() error { return r.dir.Close() }

// Graphs are the image stores of Docker's graph drivers.
func (r *Root) Graphs() []*Graph { return r.graphs }

// Stores are the image stores of containerd.
func (r *Root) Stores() []*Store { return r.stores }

// find looks what the directory is the data root of.
func (r *Root) find() error {
	drivers, err := names(r.dir, "image")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r.wrong(err)
	}
	var strange []string
	for _, d := range drivers {
		at, ok := layersOf[d]
		switch _, err := inroot.Stat(r.dir, path.Join("image", d, "repositories.json")); {
		case errors.Is(err, fs.ErrNotExist): // no image was ever there
		case err != nil:
			return r.wrong(err)
		case ok:
			r.graphs = append(r.graphs, &Graph{root: r, home: path.Join("image", d), layers: at})
		default:
			strange = append(strange, d)
		}
	}
	for _, home := range homesOf {
		switch _, err := inroot.Stat(r.dir, path.Join(home, metaFile)); {
		case err == nil:
			r.stores = append(r.stores, &Store{root: r, home: home})
		case !errors.Is(err, fs.ErrNotExist):
			return r.wrong(err)
		}
	}
	switch {
	case len(r.graphs)+len(r.stores) > 0:
		return nil
	case len(strange) > 0:
		return r.wrong(fmt.Errorf("images of Docker's storage driver %.100q cannot be read", strange[0]))
	}
	return r.wrong(errNoImages)
}

var errNoImages = errors.New("neither Docker nor containerd has images in it")

func (r *Root) wrong(err error) error { return wrong("data root "+r.dir.Name(), err) }

// wrong says where in the data root an error is, and that it is the caller's if
// something there is not as it should be. That it could not be read is ours.
func wrong(where string, err error) error {
	if failed(err) {
		return fmt.Errorf("%s: %w", where, err)
	}
	return errdefs.New(errdefs.InvalidArgument, "%s: %w", where, err)
}

// failed reports whether an error says nothing of what was to be read. Errors
// that a name or a kind of file brings about do.
func failed(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	errno, ok := errors.AsType[syscall.Errno](err)
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.EXDEV, syscall.ENAMETOOLONG, syscall.EINVAL:
		return false
	}
	return ok
}

// maxEntries bounds a directory: there are as many images and drivers at most.
const maxEntries = 100_000

// names lists a directory, sorted.
func names(root *os.File, dir string) ([]string, error) {
	f, err := inroot.OpenExact(root, dir, inroot.ODirectory)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Readdirnames(maxEntries)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(all) == maxEntries {
		return nil, fmt.Errorf("%s has %d entries or more", dir, maxEntries)
	}
	slices.Sort(all)
	return all, nil
}

// read returns a file of at most so many bytes.
func read(root *os.File, name string, limit int64) ([]byte, error) {
	f, err := inroot.OpenRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return b, nil
}

// word returns the one word that a small file consists of.
func word(root *os.File, name string) (string, error) {
	const most = 1 << 10
	b, err := read(root, name, most)
	return strings.TrimSpace(string(b)), err
}

// check lets only digests through that are fit for a file name.
func check(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return errdefs.New(errdefs.InvalidArgument, "digest %.100q", d)
	}
	return nil
}
