package oci

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/tare-engine/tare/internal/linux/cgroup"
)

// procsBelow are the files, called entry, by which a process enters the groups
// that "exec --cgroup" names below a container's group: either one path for all
// hierarchies, or for some of them "controller,…:path"; the others stay at the
// container's group.
func procsBelow(hierarchies []cgroup.Mount, entry string, args []string) ([]string, error) {
	dirs := make([]string, len(hierarchies))
	for i, h := range hierarchies {
		dirs[i] = h.Source
	}
	given := map[int]bool{}
	for _, arg := range args {
		controllers, sub, named := strings.Cut(arg, ":")
		if !named {
			controllers, sub = "", arg
			if len(args) > 1 {
				return nil, fmt.Errorf("invalid --cgroup argument: %s (missing <controller>: prefix)", arg)
			}
		}
		for _, i := range hierarchiesOf(hierarchies, controllers, named) {
			if i < 0 {
				return nil, fmt.Errorf("invalid --cgroup argument: %s (no such controller here)", arg)
			}
			below, err := existingBelow(hierarchies[i].Source, sub)
			if err != nil {
				return nil, err
			}
			if given[i] && below != dirs[i] {
				return nil, fmt.Errorf("invalid --cgroup argument(s): the hierarchy of %s is given twice", arg)
			}
			dirs[i], given[i] = below, true
		}
	}
	for i := range dirs {
		dirs[i] += "/" + entry
	}
	return dirs, nil
}

// hierarchiesOf are the indices of the hierarchies with the controllers, -1
// for one that is nowhere; all of them if none are named.
func hierarchiesOf(list []cgroup.Mount, controllers string, named bool) (indices []int) {
	if !named {
		for i := range list {
			indices = append(indices, i)
		}
		return indices
	}
	for c := range strings.SplitSeq(controllers, ",") {
		indices = append(indices, slices.IndexFunc(list, func(h cgroup.Mount) bool {
			c := strings.TrimPrefix(c, "name=")
			return c != "" && slices.Contains(strings.Split(h.Name, ","), c)
		}))
	}
	return indices
}

// existingBelow is the directory sub of a group's directory: the caller has
// made it. A path that leads out is an error, not a path to elsewhere.
func existingBelow(dir, sub string) (string, error) {
	p := path.Join(dir, sub)
	if p != dir && !strings.HasPrefix(p, dir+"/") {
		return "", fmt.Errorf("%s is not a sub cgroup path", sub)
	}
	if _, err := os.Stat(p + "/cgroup.procs"); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("sub cgroup %s does not exist", p)
	} else if err != nil {
		return "", err
	}
	return p, nil
}
