package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// runtimes compares OCI runtimes on one bundle without network. crun refuses
// hybrid control groups: something else lies over the second tree meanwhile, in
// the mount namespace of this run.
func (b *bench) runtimes() (err error) {
	bundle, err := b.bundle()
	if err != nil {
		return err
	}
	const unified = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(unified + "/cgroup.procs"); err == nil {
		if err := syscall.Mount("tmpfs", unified, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", unified, err)
		}
		defer func() { err = errors.Join(err, syscall.Unmount(unified, 0)) }()
	}
	n := 0
	run := func(program string) error {
		n++
		return command(program, "--root", filepath.Join(b.tmpfs, filepath.Base(program)), "run", "--bundle", bundle, "b"+strconv.Itoa(n))
	}
	var rows []contestant
	for _, p := range []string{filepath.Join(b.o.bin, "tare-runtime"), "crun", "runc"} {
		if _, err := exec.LookPath(p); err != nil {
			fmt.Printf("%s is not installed\n", p)
			continue
		}
		if err := run(p); err != nil {
			fmt.Printf("%s is left out: %v\n", p, err)
			continue
		}
		rows = append(rows, contestant{filepath.Base(p) + " run, bundle, no network", func() error { return run(p) }})
	}
	return b.race("runtimes", b.o.rounds, rows...)
}
