package build

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// groups is the parent that BuildKit gives to the groups of steps.
func (c Config) groups() cgroup.Parent { return cgroup.Parent(c.Cgroup + "/buildkit") }

// bundles is the directory in which each step under way has its bundle.
func (c Config) bundles() string { return filepath.Join(c.ExecRoot, "executor") }

// Sweep ends and removes what builds of an engine that was killed have left: steps
// that still run, their control groups, mounts. It costs nothing if there is nothing.
func Sweep(c Config) error {
	errs := []error{sweepBundles(c)}
	names, err := c.groups().List()
	if err != nil {
		return err
	}
	for _, name := range names {
		errs = append(errs, sweepStep(c, name, string(c.groups())+"/"+name))
	}
	if err := mount.DetachBelow(c.ExecRoot); err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, c.groups().Remove(), cgroup.Parent(c.Cgroup).Remove(), os.RemoveAll(c.ExecRoot))...)
}

// sweepBundles ends the steps that have a bundle: the group of one may be elsewhere,
// where its build wanted it.
func sweepBundles(c Config) error {
	list, err := os.ReadDir(c.bundles())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, dir := range list {
		group, err := groupOf(filepath.Join(c.bundles(), dir.Name()))
		if errors.Is(err, fs.ErrNotExist) { // it has not been started, or is no bundle
			continue
		}
		errs = append(errs, err)
		if err == nil {
			errs = append(errs, sweepStep(c, dir.Name(), group))
		}
	}
	return errors.Join(errs...)
}

// groupOf reads from a bundle which control group its container has; "": none, or
// none that can be told.
func groupOf(bundle string) (string, error) {
	info, err := os.Stat(bundle)
	if err != nil || !info.IsDir() {
		return "", errors.Join(err, fs.ErrNotExist)
	}
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return "", err
	}
	var s specs.Spec
	if err := json.Unmarshal(b, &s); err != nil || s.Linux == nil { // the engine died while it wrote it
		return "", fs.ErrNotExist
	}
	return strings.TrimPrefix(s.Linux.CgroupsPath, "/"), nil
}

// sweepStep ends one step and removes its group. The runtime knows its state and
// kills; a group that it does not know goes all the same.
func sweepStep(c Config, id, group string) error {
	_ = exec.Command(c.Runtime, "delete", "--force", id).Run()
	if group == "" {
		return nil
	}
	g, err := cgroup.Open(group)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(g.Kill(), g.Remove(), g.Close())
}
