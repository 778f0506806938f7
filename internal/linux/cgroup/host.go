package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// host is the tree of this machine, found once.
var host = sync.OnceValues(func() (tree, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_, err = os.Stat("/run/systemd/system")
	t, err := detect(f, err == nil)
	if t, ok := t.(*v1); ok && !isVersion2(t.unified) {
		t.unified = ""
	}
	return t, err
})

// isVersion2 reports whether a directory is in a tree of version 2: where it is
// mounted something else may lie on top.
func isVersion2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// detect reads which trees are mounted. A named tree has no controller; only
// systemd's matters, and only under systemd, which takes processes that it
// does not find there for its own, or for a container that runs systemd.
func detect(mountinfo io.Reader, systemd bool) (tree, error) {
	var trees []dir
	unified, named := "", ""
	s := bufio.NewScanner(mountinfo)
	for s.Scan() {
		// ID parent major:minor root mount-point options... - type source super-options
		left, right, ok := strings.Cut(s.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		switch r[0] {
		case "cgroup2":
			if unified == "" || l[4] == "/sys/fs/cgroup" {
				unified = l[4]
			}
		case "cgroup":
			names := controllersOf(r[2], systemd)
			if len(names) == 0 && strings.Contains(","+r[2]+",", ",name=systemd,") {
				named = l[4]
			}
			if len(names) > 0 && !slices.ContainsFunc(trees, func(d dir) bool { return d.controllers[0] == names[0] }) {
				trees = append(trees, dir{l[4], names})
			}
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	switch {
	case len(trees) > 0:
		return &v1{trees: trees, named: named, unified: unified}, nil
	case unified != "":
		return &v2{root: unified}, nil
	}
	return nil, errors.New("no cgroup tree is mounted")
}

// controllersOf picks the controllers from the options of a version 1 mount.
func controllersOf(options string, systemd bool) []string {
	var names []string
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods", "seclabel", "none":
			continue
		case "name=systemd":
			if systemd {
				names = append(names, "systemd")
			}
			continue
		}
		if !strings.Contains(o, "=") {
			names = append(names, o)
		}
	}
	return names
}
