package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/filemeta"
	"github.com/tare-engine/tare/internal/undo"
)

// Options of a container's layer.
type Options struct {
	Volatile bool         // gone after a reboot anyway: never wait for a disk
	IDs      *idrange.Map // of the container; nil: those of the host
	Size     int64        // the bytes that the layer may take, as Limit says; 0: as many as there are
}

const (
	lowerLink    = "lower"
	volatileLink = "lower-volatile"
)

// Prepare makes the read-write directories of a container over a chain. One
// that was prepared before over the same chain keeps what it has.
func (s *Service) Prepare(ctx context.Context, id string, on ChainID, o Options) (err error) {
	if err := checkContainer(id); err != nil {
		return err
	}
	c, known, err := s.claim(id, placement{on, o.Volatile})
	if err != nil {
		return err
	}
	var u undo.Stack
	defer u.Run(&err)
	if !known {
		u.Add(func() error { return s.Remove(context.WithoutCancel(ctx), id) })
	}

	in, err := s.initOf(ctx, c)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.containers, id)
	if err := mkdirs(dir, filepath.Join(dir, "work")); err != nil {
		return err
	}
	failpoint.Hit("create/layer-directories")
	r := s.root(id, c, in, o.Volatile)
	r.Size = o.Size
	if err := s.prepare(ctx, r, known); err != nil {
		return err
	}
	if err := s.setTop(filepath.Join(dir, "rw"), s.topOf(in, o.IDs)); err != nil {
		return err
	}
	failpoint.Hit("create/layer-prepared")
	link := lowerLink
	if o.Volatile {
		link = volatileLink
	}
	err = os.Symlink(filepath.Join("..", "..", "layers", s.driver.Name(), filepath.Base(s.dir(on))), filepath.Join(dir, link))
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	failpoint.Hit("create/layer-linked")
	return err
}

// prepare makes the container's own directory; known says that one that is there
// is whole. Another one was left by a kill.
func (s *Service) prepare(ctx context.Context, r Root, known bool) error {
	err := s.driver.Prepare(ctx, r)
	switch {
	case !errors.Is(err, fs.ErrExist):
		return err
	case known:
		return nil
	}
	if err := s.trash.put(r.Upper); err != nil {
		return err
	}
	return s.driver.Prepare(ctx, r)
}

// topOf is what the root directory of a container gets.
func (s *Service) topOf(in *initLayer, ids *idrange.Map) filemeta.Meta {
	m := in.root
	if ids != nil && !s.driver.Form().mapsOwn() {
		m.UID, m.GID = int(ids.HostUID(uint32(m.UID))), int(ids.HostGID(uint32(m.GID)))
	}
	return m
}

func checkContainer(id string) error {
	if id == "" || id != filepath.Base(id) || id == "." || id == ".." || len(id) > 128 {
		return errdefs.New(errdefs.InvalidArgument, "invalid container ID %q", id)
	}
	return nil
}

func mkdirs(dirs ...string) error {
	for _, d := range dirs {
		if err := os.Mkdir(d, 0710); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// claim notes that a container stands on a chain, which keeps the chain, and
// reports whether that was known.
func (s *Service) claim(id string, p placement) (c *chain, known bool, err error) {
	if err := checkChain(p.chain); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, err = s.load(p.chain); err != nil {
		return nil, false, err
	}
	old, known := s.containing[id]
	if known && old != p {
		return nil, true, errdefs.New(errdefs.Conflict, "container %s stands on layer %s", id, old.chain)
	}
	s.containing[id] = p
	return c, known, nil
}

func (s *Service) root(id string, c *chain, in *initLayer, volatile bool) Root {
	dir := filepath.Join(s.containers, id)
	return Root{
		Upper:    filepath.Join(dir, "rw"),
		Work:     filepath.Join(dir, "work"),
		Lower:    append([]string{in.dir}, c.lower...),
		Volatile: volatile,
	}
}

// mountPoints is the lower directory of a container that has the mount points.
func (r Root) mountPoints() string { return r.Lower[0] }

// image are the lower directories of a container that are its image's.
func (r Root) image() []string { return r.Lower[1:] }

// rootOf finds what a prepared container consists of.
func (s *Service) rootOf(ctx context.Context, id string) (Root, error) {
	s.mu.Lock()
	p, ok := s.containing[id]
	s.mu.Unlock()
	if !ok {
		return Root{}, s.missing("container " + id + " has no layer")
	}
	c, err := s.chainOf(p.chain)
	if err != nil {
		return Root{}, err
	}
	in, err := s.initOf(ctx, c)
	if err != nil {
		return Root{}, err
	}
	return s.root(id, c, in, p.volatile), nil
}

// Data says where a container's layer lies, in Docker's words: of a stacked
// driver its directories, of others nothing, and nothing of a container that
// has no layer.
func (s *Service) Data(ctx context.Context, id string) map[string]string {
	if s.driver.Form() != Stacked {
		return nil
	}
	r, err := s.rootOf(ctx, id)
	if err != nil {
		return nil
	}
	return map[string]string{"ID": id, "LowerDir": strings.Join(r.Lower, ":"), "UpperDir": r.Upper, "WorkDir": r.Work}
}

// ChainData is Data of an image's chain, of which the topmost layer is upper.
func (s *Service) ChainData(id ChainID) map[string]string {
	c, err := s.chainOf(id)
	if err != nil || s.driver.Form() != Stacked || len(c.lower) == 0 {
		return nil
	}
	data := map[string]string{"UpperDir": c.lower[0]}
	if len(c.lower) > 1 {
		data["LowerDir"] = strings.Join(c.lower[1:], ":")
	}
	return data
}

// Mount mounts a container's root, attached nowhere. The caller closes the
// result. A container is mounted once at a time. ns has the ids that the
// container was prepared with; nil: it has those of the host.
func (s *Service) Mount(ctx context.Context, id string, ns *os.File) (*os.File, error) {
	r, err := s.rootOf(ctx, id)
	if err != nil {
		return nil, err
	}
	r.UserNS = ns
	if len(s.addedTo(id)) > 0 { // to its last run
		if err := s.takeFrom(id); err != nil {
			return nil, err
		}
	}
	failpoint.Hit("start/root-mount")
	f, err := s.driver.Mount(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("mount root of container %s: %w", id, err)
	}
	return f, nil
}

// Remove takes a container's layer away. It does not fail because someone
// holds a file or has it mounted, and removes nothing else of the container's
// directory. A container that has no layer is no error.
func (s *Service) Remove(ctx context.Context, id string) error {
	if err := checkContainer(id); err != nil {
		return err
	}
	dir := filepath.Join(s.containers, id)
	// The links go last: until then a restart knows what the container stood on.
	for _, n := range []string{"rw", "work", lowerLink, volatileLink} {
		if err := s.trash.put(filepath.Join(dir, n)); err != nil && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
		failpoint.Hit("rm/layer-" + n)
	}
	if err := s.takeFrom(id); err != nil {
		return err
	}
	_ = os.Remove(dir) // if it was only ours
	s.recent.Forget(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containing, id)
	return s.dropUnneeded()
}

// Usage measures a container's own layer.
func (s *Service) Usage(ctx context.Context, id string) (Usage, error) {
	r, err := s.rootOf(ctx, id)
	if err != nil {
		return Usage{}, err
	}
	return s.driver.Usage(ctx, r)
}

// Recent is Usage for who asks often, or of many: of a layer that it takes long to measure
// it may be what was measured lately (package tally). It says of which time it is.
func (s *Service) Recent(ctx context.Context, id string) (Usage, time.Time, error) {
	return s.recent.Get(ctx, id, func() (Usage, error) { return s.Usage(context.WithoutCancel(ctx), id) })
}

// UsageOf walks a directory that holds what has changed and nothing else. It
// counts bytes that are there: neither holes nor what is allocated beyond.
func UsageOf(ctx context.Context, dir string) (u Usage, err error) {
	err = eachFile(ctx, dir, func(info fs.FileInfo) {
		u.Inodes++
		if info.Mode().IsRegular() {
			u.Bytes += min(info.Size(), disk.Taken(info))
		}
	})
	return u, err
}

// Changes lists in what a container differs from its image, sorted by path, a
// directory's content right behind it. ns is as for Mount.
func (s *Service) Changes(ctx context.Context, id string, ns *os.File) ([]Change, error) {
	r, err := s.rootOf(ctx, id)
	if err != nil {
		return nil, err
	}
	r.UserNS = ns
	list, err := s.driver.Changes(ctx, r)
	slices.SortFunc(list, func(a, b Change) int { return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/")) })
	return list, err
}

// findContainers reads the links of all containers.
func (s *Service) findContainers() error {
	entries, err := os.ReadDir(s.containers)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, link := range []string{lowerLink, volatileLink} {
			to, err := os.Readlink(filepath.Join(s.containers, e.Name(), link))
			if err != nil {
				continue
			}
			dir, base := filepath.Split(to)
			if filepath.Base(dir) != s.driver.Name() {
				break // of another driver
			}
			p := placement{volatile: link == volatileLink}
			if base != "none" {
				p.chain = digest.NewDigestFromEncoded(digest.SHA256, base)
			}
			if checkChain(p.chain) == nil {
				s.containing[e.Name()] = p
			}
			break
		}
	}
	return nil
}

// Containers returns the IDs of all containers that have a layer, for finding
// those that nobody else knows.
func (s *Service) Containers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.containing))
	for id := range s.containing {
		ids = append(ids, strings.Clone(id))
	}
	return ids
}
