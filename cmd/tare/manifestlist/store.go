package manifestlist

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of what is read.
const (
	maxFile      = 16 << 20 // bytes of a manifest: the document twice, once in base64
	maxManifests = 1000     // in a list
)

// Store is a directory of lists, by their references in full.
type Store struct{ dir string }

// NewStore names a directory, which need not be there yet.
func NewStore(dir string) Store { return Store{dir} }

// NotFoundError says that there is no such list, or no such manifest in it.
type NotFoundError struct{ Ref string }

func (e *NotFoundError) Error() string { return "No such manifest: " + e.Ref }

// IsNotFound reports whether err is one.
func IsNotFound(err error) bool {
	_, ok := errors.AsType[*NotFoundError](err)
	return ok
}

// fileName is the name of what has the reference. It is docker's, and not the
// only one that leads to it.
func fileName(ref string) string { return strings.NewReplacer(":", "-", "/", "_").Replace(ref) }

// open opens the directory; nothing outside of it is reached from there.
func (s Store) open(ref string) (*os.Root, error) {
	root, err := os.OpenRoot(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{ref}
	}
	return root, err
}

// Has reports whether there is a list, be it in order or not.
func (s Store) Has(list string) (bool, error) {
	root, err := s.open(list)
	if IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	_, err = root.Lstat(fileName(list))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// List returns the manifests of a list, by the names of their files.
func (s Store) List(list string) ([]Manifest, error) {
	root, err := s.openList(list)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	names, err := entryNames(root)
	if err != nil {
		return nil, fmt.Errorf("manifest list %s: %w", list, err)
	}
	all := []Manifest{}
	for _, name := range names {
		m, err := read(root, name)
		if err != nil {
			return nil, fmt.Errorf("manifest list %s: %w", list, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func (s Store) openList(list string) (*os.Root, error) {
	root, err := s.open(list)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	in, err := root.OpenRoot(fileName(list))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{list}
	}
	if err != nil {
		return nil, fmt.Errorf("manifest list %s: %w", list, err)
	}
	return in, nil
}

// entryNames are sorted.
func entryNames(root *os.Root) (names []string, err error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	if len(entries) > maxManifests {
		return nil, fmt.Errorf("it has %d files, at most %d are possible", len(entries), maxManifests)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Get returns a manifest of a list.
func (s Store) Get(list, ref string) (Manifest, error) {
	root, err := s.openList(list)
	if IsNotFound(err) {
		return Manifest{}, &NotFoundError{ref}
	}
	if err != nil {
		return Manifest{}, err
	}
	defer root.Close()
	m, err := read(root, fileName(ref))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Manifest{}, &NotFoundError{ref}
	case err != nil:
		return Manifest{}, fmt.Errorf("manifest list %s: %w", list, err)
	case m.Ref != ref:
		return Manifest{}, fmt.Errorf("manifest list %s: the file %s is of %s, not of %s", list, fileName(ref), m.Ref, ref)
	}
	return m, nil
}

// read reads a manifest's file.
func read(root *os.Root, name string) (m Manifest, err error) {
	bad := func(err error) (Manifest, error) {
		return Manifest{}, fmt.Errorf("invalid manifest file %s: %w", name, err)
	}
	// Who opened a FIFO would wait.
	if info, err := root.Stat(name); err != nil {
		return m, err
	} else if !info.Mode().IsRegular() {
		return bad(errors.New("not a regular file"))
	}
	f, err := root.Open(name)
	if err != nil {
		return m, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return m, err
	}
	if len(b) > maxFile {
		return bad(fmt.Errorf("more than %d bytes", maxFile))
	}
	if m, err = parse(b); err != nil {
		return bad(err)
	}
	return m, nil
}

func parse(b []byte) (m Manifest, err error) {
	if err := json.Unmarshal(b, &m); err != nil {
		return m, err
	}
	if m.Ref == "" || strings.ContainsFunc(m.Ref, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return m, fmt.Errorf("reference %.100q", m.Ref)
	}
	return m, m.check()
}

// Create makes a list of manifests: all of it or nothing.
func (s Store) Create(list string, all []Manifest) error {
	return s.change(func(root *os.Root) error {
		temp := tempName()
		if err := root.Mkdir(temp, 0o755); err != nil {
			return err
		}
		err := fill(root, temp, all)
		if err == nil {
			// Another list of that name must be empty to be replaced.
			err = root.Rename(temp, fileName(list))
		}
		if err != nil {
			return errors.Join(err, root.RemoveAll(temp))
		}
		return nil
	})
}

func fill(root *os.Root, dir string, all []Manifest) error {
	in, err := root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer in.Close()
	for _, m := range all {
		if err := write(in, fileName(m.Ref), m); err != nil {
			return err
		}
	}
	return nil
}

// Save puts a manifest into a list that is there, in place of the one it had by
// that name.
func (s Store) Save(list string, m Manifest) error {
	return s.change(func(root *os.Root) error {
		temp := tempName() // not in the list: docker would take it for a manifest
		err := write(root, temp, m)
		if err == nil {
			err = root.Rename(temp, fileName(list)+"/"+fileName(m.Ref))
		}
		if err != nil {
			_ = root.Remove(temp)
		}
		return err
	})
}

// Remove removes a list.
func (s Store) Remove(list string) error {
	there, err := s.Has(list)
	if err != nil {
		return err
	}
	if !there {
		return &NotFoundError{list}
	}
	return s.change(func(root *os.Root) error {
		temp := tempName()
		if err := root.Rename(fileName(list), temp); err != nil {
			return err
		}
		return root.RemoveAll(temp)
	})
}

// change calls f with the directory, which it makes if need be.
func (s Store) change(f func(*os.Root) error) error {
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o700); err != nil { // it has credentials too
		return err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return f(root)
}

// tempName is no list's name: those of references do not begin with a dot.
func tempName() string { return ".tmp-" + rand.Text() }

func write(root *os.Root, name string, m Manifest) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
