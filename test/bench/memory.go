package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tare-engine/tare/test/fixture"
)

// memory starts sleeping containers and looks at what they cost.
func (b *bench) memory() error {
	fmt.Printf("| sleeping containers of tare | user memory of ours, KB each | tasks of ours | kernel memory, KB each | ps ms | run --rm ms |\n|---|---|---|---|---|---|\n")
	idle, kernel := b.own(), kernelMemory()
	started := 0
	for _, n := range []int{100, b.o.sleepers} {
		for started < n {
			step := min(20, n-started)
			if _, err := together(step, func() error { return b.tareCLI("run", "-d", fixture.Image, "sleep", "36000") }); err != nil {
				return err
			}
			started += step
		}
		time.Sleep(2 * time.Second)
		now := b.own()
		ps, err := timed(func() error { return b.tareCLI("ps", "-q") })
		if err != nil {
			return err
		}
		one, err := timed(func() error { return b.tareCLI("run", "--rm", fixture.Image, "true") })
		if err != nil {
			return err
		}
		fmt.Printf("| %d | %d | %d | %d | %.1f | %.1f |\n", n, (now.rss-idle.rss)/n, now.tasks-idle.tasks, (kernelMemory()-kernel)/n, ms(ps), ms(one))
	}
	fmt.Println()
	ids, err := b.tare.output("ps", "-aq")
	if err != nil {
		return err
	}
	return b.tareCLI(append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
}

type cost struct{ rss, tasks int }

// own is what the engine's own processes take: tared, the keeper, nurseries.
func (b *bench) own() cost {
	var c cost
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		comm, _ := os.ReadFile(d + "/comm")
		if !bytes.HasPrefix(comm, []byte("tare")) {
			continue
		}
		status, _ := os.ReadFile(d + "/status")
		for line := range strings.Lines(string(status)) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			n, _ := strconv.Atoi(f[1])
			switch f[0] {
			case "VmRSS:":
				c.rss += n
			case "Threads:":
				c.tasks += n
			}
		}
	}
	return c
}

// processOf is the name of a process and its resident memory in KB, by its directory
// in /proc.
func processOf(dir string) (comm string, rss int) {
	text, _ := os.ReadFile(dir + "/status")
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "Name:":
			comm = f[1]
		case f[0] == "VmRSS:":
			rss, _ = strconv.Atoi(f[1])
		}
	}
	return comm, rss
}

// kernelMemory is what the kernel keeps for its objects, in KB: slab caches,
// kernel stacks, page tables, per-CPU areas.
func kernelMemory() int {
	kb := 0
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		switch f := strings.Fields(line); f[0] {
		case "Slab:", "KernelStack:", "PageTables:", "Percpu:":
			n, _ := strconv.Atoi(f[1])
			kb += n
		}
	}
	return kb
}
