package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
)

// runtimes compares OCI runtimes on one bundle without network. crun refuses
// hybrid control groups; to compare with it there, run the bench in a mount
// namespace of its own without the second tree.
func (b *bench) runtimes() error {
	bundle, err := b.bundle()
	if err != nil {
		return err
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
