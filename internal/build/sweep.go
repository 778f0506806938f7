package build

import (
	"errors"
	"os"
	"os/exec"

	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// groups is the parent that BuildKit gives to the groups of steps.
func (c Config) groups() cgroup.Parent { return cgroup.Parent(c.Cgroup + "/buildkit") }

// Sweep ends and removes what builds of an engine that was killed have left: steps
// that still run, their control groups, mounts. It costs nothing if there is nothing.
func Sweep(c Config) error {
	names, err := c.groups().List()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		// The runtime knows its state and kills; a group that it does not know goes all the same.
		_ = exec.Command(c.Runtime, "delete", "--force", name).Run()
		g, err := cgroup.Open(string(c.groups()) + "/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, g.Kill(), g.Remove(), g.Close())
	}
	if err := mount.DetachBelow(c.ExecRoot); err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, c.groups().Remove(), cgroup.Parent(c.Cgroup).Remove(), os.RemoveAll(c.ExecRoot))...)
}
