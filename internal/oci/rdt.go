package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// resctrl is where Intel's resource director technology is mounted.
const resctrl = "/sys/fs/resctrl"

// rdt puts the process into the class of service of the spec, which is made if
// it is missing.
func (k *creation) rdt(pid int) error {
	r := k.b.spec.Linux.IntelRdt
	if r == nil {
		return nil
	}
	if _, err := os.Stat(resctrl + "/schemata"); err != nil {
		return fmt.Errorf("linux.intelRdt: %s is not mounted, or this processor has none", resctrl)
	}
	dir, err := rdtDir(r, k.ID)
	if err != nil {
		return err
	}
	err = os.Mkdir(dir, 0o755)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	k.c.Rdt = ""
	if err == nil {
		k.c.Rdt = dir // ours to remove
	}
	lines := slices.Clone(r.Schemata)
	if len(lines) == 0 {
		lines = slices.DeleteFunc([]string{r.L3CacheSchema, r.MemBwSchema}, func(s string) bool { return s == "" })
	}
	for _, l := range lines {
		if err := os.WriteFile(dir+"/schemata", []byte(l+"\n"), 0); err != nil {
			return fmt.Errorf("linux.intelRdt: %q: %w", l, err)
		}
	}
	tasks := []string{dir + "/tasks"}
	if r.EnableMonitoring {
		group := dir + "/mon_groups/" + k.ID
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		tasks = append(tasks, group+"/tasks")
	}
	for _, t := range tasks {
		if err := os.WriteFile(t, []byte(itoa(pid)), 0); err != nil {
			return err
		}
	}
	return nil
}

// rdtDir is the directory of a class: a name, never a path.
func rdtDir(r *specs.LinuxIntelRdt, id string) (string, error) {
	name := r.ClosID
	if name == "" {
		name = id
	}
	if name == "." || name == ".." || strings.ContainsAny(name, "/\n\x00") {
		return "", fmt.Errorf("linux.intelRdt: invalid closID %q", name)
	}
	return filepath.Join(resctrl, name), nil
}

// dropRdt removes the class that was made for the container.
func (c *Container) dropRdt() error {
	if c.Rdt == "" {
		return nil
	}
	if err := os.Remove(c.Rdt); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
