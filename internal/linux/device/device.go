// Package device reads device nodes: which device a file stands for.
package device

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Node is a device file.
type Node struct {
	Path         string
	Type         string // "c" or "b"
	Major, Minor int64
	Mode         fs.FileMode // permission bits
	UID, GID     uint32
}

// At returns the node at path, following symbolic links, or fs.ErrInvalid if
// the file there is no device.
func At(path string) (Node, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Node{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return nodeOf(path, &st)
}

func nodeOf(path string, st *unix.Stat_t) (Node, error) {
	n := Node{
		Path: path, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		Mode: fs.FileMode(st.Mode & 0o777), UID: st.Uid, GID: st.Gid,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		n.Type = "c"
	case unix.S_IFBLK:
		n.Type = "b"
	default:
		return Node{}, fmt.Errorf("%s: not a device node: %w", path, fs.ErrInvalid)
	}
	return n, nil
}

// maxNodes bounds Below.
const maxNodes = 10000

// Below returns all nodes in a directory and below it. skip names files and
// directories to leave out. Symbolic links are not followed; what vanishes
// meanwhile is left out.
func Below(dir string, skip func(name string) bool) ([]Node, error) {
	var nodes []Node
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if p != dir && os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if p != dir && skip != nil && skip(d.Name()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type()&fs.ModeDevice == 0 {
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(p, &st) != nil {
			return nil
		}
		if n, err := nodeOf(p, &st); err == nil {
			nodes = append(nodes, n)
		}
		if len(nodes) > maxNodes {
			return fmt.Errorf("%s has more than %d device nodes", dir, maxNodes)
		}
		return nil
	})
	return nodes, err
}
