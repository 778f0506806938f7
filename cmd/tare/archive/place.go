// Package archive is the local half of `tare cp`: it packs files of this machine
// into tar streams, unpacks such here, and knows where a copy goes.
//
// As with cp(1), where a copy goes depends on what is there:
//
//	cp DIR  EXISTING   EXISTING/DIR
//	cp DIR  NEW        NEW
//	cp DIR/. EXISTING  what is in DIR, below EXISTING
//	cp FILE EXISTING   EXISTING/FILE
//	cp FILE NEW        NEW
//	cp FILE NEW/       an error
package archive

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Source is what is copied.
type Source struct {
	Name string // of its entry in an archive; "." is what is in a directory, "/" the root
	As   string // the name that it has for the user, if that is another one
	Dir  bool
}

// Called is the name of a source where it goes.
func (s Source) Called() string {
	if s.As != "" {
		return s.As
	}
	return s.Name
}

// Target is where a copy is to go.
type Target struct {
	Path   string // with its slash or "/." at the end, if it has one
	Exists bool
	Dir    bool
}

// Errors of Place, in docker's words.
var (
	ErrDirectory   = errors.New("cannot copy directory")
	ErrNoDirectory = errors.New("no such directory")
)

// Place says into which directory the archive of a source is unpacked, and what
// the source is called there. split cuts the last component off a path of the
// target's system.
func Place(s Source, t Target, split func(string) (dir, base string)) (dir, name string, err error) {
	switch {
	case t.Exists && t.Dir:
		return t.Path, s.Called(), nil
	case t.Exists && s.Dir:
		return "", "", ErrDirectory
	case !t.Exists && !s.Dir && endsInDirectory(t.Path):
		return "", "", ErrNoDirectory
	}
	dir, name = split(t.Path)
	return dir, name, nil
}

// endsInDirectory reports whether a path can only mean a directory.
func endsInDirectory(p string) bool {
	return p != "" && os.IsPathSeparator(p[len(p)-1]) || strings.HasSuffix(p, "/") || inDirectory(p)
}

// inDirectory reports whether a path means what is in a directory.
func inDirectory(p string) bool { return filepath.Base(p) == "." }

// Local is a source on this machine.
type Local struct {
	Source
	path string
}

// Find finds the source that a path names. A link is the link itself, unless
// follow is set or the path ends in a slash.
func Find(p string, follow bool) (Local, error) {
	full, err := filepath.Abs(p)
	if err != nil {
		return Local{}, err
	}
	l := Local{Source: Source{Name: filepath.Base(full)}, path: full}
	look := os.Lstat
	if follow || endsInDirectory(p) {
		look = os.Stat
	}
	if inDirectory(p) {
		l.Name = "."
	}
	st, err := look(full)
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			pe.Op = "lstat"
		}
		return l, err
	}
	if l.Dir = st.IsDir(); !l.Dir && endsInDirectory(p) {
		return l, &fs.PathError{Op: "lstat", Path: p, Err: errNotDirectory}
	}
	if follow || endsInDirectory(p) {
		l.path, err = filepath.EvalSymlinks(full)
	}
	return l, err
}

// maxLinks is how many links a path may have at its end.
const maxLinks = 40

// FindTarget finds out what is at a path of this machine. A link leads to what
// it leads to, even if nothing is there.
func FindTarget(p string) (Target, error) {
	full, err := filepath.Abs(p)
	if err != nil {
		return Target{}, err
	}
	if endsInDirectory(p) {
		full += string(filepath.Separator)
	}
	for range maxLinks {
		st, err := os.Lstat(full)
		if errors.Is(err, fs.ErrNotExist) {
			return Target{Path: full}, nil
		}
		if err != nil {
			return Target{}, err
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			return Target{Path: full, Exists: true, Dir: st.IsDir()}, nil
		}
		to, err := os.Readlink(full)
		if err != nil {
			return Target{}, err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(full), to)
		}
		full = to
	}
	return Target{}, errors.New("too many symbolic links: " + p)
}

// Split is the split of Place for this machine.
func Split(p string) (dir, base string) {
	p = filepath.Clean(p)
	return filepath.Dir(p), filepath.Base(p)
}
