package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/test/fixture"
)

// contestant is one line of a table: what is timed.
type contestant struct {
	name string
	do   func() error
}

// race times the contestants by turns and prints median, p99 and the ratio of
// medians to the first one.
func (b *bench) race(title string, rounds int, all ...contestant) error {
	times := make([][]time.Duration, len(all))
	for _, c := range all { // warm up: caches, pools
		if err := errors.Join(c.do(), c.do()); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for range rounds {
		for i, c := range all {
			time.Sleep(20 * time.Millisecond) // what goes on after an answer is not the next one's
			t := time.Now()
			if err := c.do(); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			times[i] = append(times[i], time.Since(t))
		}
	}
	fmt.Printf("| %s | median ms | p99 ms | ratio |\n|---|---|---|---|\n", title)
	var base time.Duration
	for i, c := range all {
		slices.Sort(times[i])
		median, p99 := times[i][len(times[i])/2], times[i][len(times[i])*99/100]
		if i == 0 {
			base = median
		}
		fmt.Printf("| %s | %.2f | %.2f | %.1f |\n", c.name, ms(median), ms(p99), float64(median)/float64(base))
	}
	fmt.Println()
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (b *bench) runs() error {
	bundle, err := b.bundle()
	if err != nil {
		return err
	}
	truth := b.path("rootfs/bin/true")
	n := 0
	rows := []contestant{
		{"fork and exec of a static true", func() error { return command(truth) }},
		{"unshare of all namespaces, true", func() error { return command("unshare", "-mpfuinC", "--mount-proc", truth) }},
		{"runc run, bundle on the host's root, no network", func() error {
			n++
			return command("runc", "--root", filepath.Join(b.tmpfs, "runc"), "run", "--bundle", bundle, "b"+strconv.Itoa(n))
		}},
		{"an empty Go program", func() error { return command(b.path("empty")) }},
		{"one request from a running client: run --rm true", b.runRequest},
		{"tare version (one request)", func() error { return b.tareCLI("version") }},
		{"tare run --rm true", func() error { return b.tareCLI("run", "--rm", fixture.Image, "true") }},
		{"tare run --rm --network none true", func() error { return b.tareCLI("run", "--rm", "--network", "none", fixture.Image, "true") }},
		{"docker version against Tare", func() error { return b.tare.docker("version") }},
		{"docker run --rm true against Tare", func() error { return b.tare.docker("run", "--rm", fixture.Image, "true") }},
	}
	if b.docker != nil {
		rows = append(rows, contestant{"docker run --rm true against dockerd", func() error { return b.docker.docker("run", "--rm", fixture.Image, "true") }})
	}
	return b.race("run", b.o.rounds, rows...)
}

// runRequest is a run without a command line: what the engine, the keeper and
// the kernel take.
func (b *bench) runRequest() error {
	c, err := b.client()
	if err != nil {
		return err
	}
	req := api.RunRequest{Attach: api.AttachOptions{Stream: true, Stdout: true, Stderr: true}}
	req.Create.Config = &container.Config{Image: fixture.Image, Cmd: []string{"true"}}
	req.Create.HostConfig = &container.HostConfig{AutoRemove: true}
	stream, err := c.Run(context.Background(), req, "")
	if err != nil {
		return err
	}
	defer stream.Close()
	code := -1
	err = stream.RunOutput(io.Discard, io.Discard, func(st api.RunStatus) error {
		if st.ExitCode != nil {
			code = *st.ExitCode
		}
		return nil
	})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return err
}

func (b *bench) execs() error {
	rows := []contestant{}
	for _, e := range b.engines() {
		if err := e.docker("run", "-d", "--name", "bench-exec", fixture.Image, "sleep", "3600"); err != nil {
			return err
		}
		defer e.docker("rm", "-f", "bench-exec")
	}
	rows = append(rows, contestant{"tare exec true", func() error { return b.tareCLI("exec", "bench-exec", "true") }},
		contestant{"tare ps", func() error { return b.tareCLI("ps") }},
		contestant{"tare inspect", func() error { return b.tareCLI("inspect", "bench-exec") }})
	for _, e := range b.engines() {
		rows = append(rows, contestant{"docker exec true against " + e.name, func() error { return e.docker("exec", "bench-exec", "true") }},
			contestant{"docker ps against " + e.name, func() error { return e.docker("ps") }})
	}
	return b.race("exec, ps, inspect", b.o.rounds, rows...)
}

// atOnce starts containers in parallel and waits for all of them.
func (b *bench) atOnce() error {
	fmt.Printf("| at once, run --rm true | 4, s | 16, s | 100, s |\n|---|---|---|---|\n")
	rows := []contestant{{"tare", func() error { return b.tareCLI("run", "--rm", fixture.Image, "true") }}}
	for _, e := range b.engines() {
		rows = append(rows, contestant{"docker against " + e.name, func() error { return e.docker("run", "--rm", fixture.Image, "true") }})
	}
	for _, c := range rows {
		fmt.Printf("| %s |", c.name)
		for _, n := range []int{4, 16, 100} {
			took, err := together(n, c.do)
			if err != nil {
				return err
			}
			fmt.Printf(" %.2f |", took.Seconds())
		}
		fmt.Println()
	}
	fmt.Println()
	return nil
}

func together(n int, do func() error) (time.Duration, error) {
	errs := make([]error, n)
	var wg sync.WaitGroup
	t := time.Now()
	for i := range n {
		wg.Go(func() { errs[i] = do() })
	}
	wg.Wait()
	return time.Since(t), errors.Join(errs...)
}

// memory starts sleeping containers and looks at what they cost.
func (b *bench) memory() error {
	fmt.Printf("| sleeping containers of tare | user memory of ours, KB each | tasks of ours | host memory, KB each | ps ms | run --rm ms |\n|---|---|---|---|---|---|\n")
	idle, free := b.own(), available()
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
		fmt.Printf("| %d | %d | %d | %d | %.1f | %.1f |\n", n, (now.rss-idle.rss)/n, now.tasks-idle.tasks, (free-available())/n, ms(ps), ms(one))
	}
	fmt.Println()
	ids, err := exec.Command("docker", "-H", "unix://"+b.tare.socket, "ps", "-aq").Output()
	if err != nil {
		return err
	}
	return b.tareCLI(append([]string{"rm", "-f"}, strings.Fields(string(ids))...)...)
}

// timed is the median of five.
func timed(do func() error) (time.Duration, error) {
	var all []time.Duration
	for range 5 {
		t := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(t))
	}
	slices.Sort(all)
	return all[2], nil
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

// available is MemAvailable in KB.
func available() int {
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "MemAvailable:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

// dirty times the exit of a container beside 2 GB that are not on disk yet.
func (b *bench) dirty() error {
	rows := []contestant{}
	for _, e := range b.engines() {
		rows = append(rows, contestant{"docker run true against " + e.name, func() error {
			if err := command("dd", "if=/dev/zero", "of="+b.path("dirty"), "bs=1M", "count=2048", "status=none"); err != nil {
				return err
			}
			t := time.Now()
			err := e.docker("run", "--name", "bench-dirty", fixture.Image, "true")
			fmt.Printf("exit beside 2 GB of dirty pages, %s: %.0f ms\n", e.name, ms(time.Since(t)))
			return errors.Join(err, e.docker("rm", "bench-dirty"), os.Remove(b.path("dirty")))
		}})
	}
	for _, c := range rows {
		if err := c.do(); err != nil {
			return err
		}
	}
	fmt.Println()
	return nil
}

// logs times a container that writes a gigabyte of lines, and reading it back.
func (b *bench) logs() error {
	const lines, times = 1_000_000, 10
	line := []byte("a line of a hundred bytes, which is about what programs write: 0123456789 0123456789 0123456789 01\n")
	file := b.path("lines")
	if err := os.WriteFile(file, bytes.Repeat(line, lines), 0644); err != nil {
		return err
	}
	megabytes := float64(lines*times*len(line)) / 1e6
	cat := "cat" + strings.Repeat(" /lines", times)
	floor, err := timed(func() error {
		return command("sh", "-c", "cat"+strings.Repeat(" "+file, times)+" | cat >"+b.path("copy"))
	})
	if err != nil {
		return err
	}
	fmt.Printf("| 1 GB of log lines, max-size=-1 | written MB/s | read back MB/s | lines lost |\n|---|---|---|---|\n")
	fmt.Printf("| floor: a pipe to a file | %.0f | | |\n", megabytes/floor.Seconds())
	type reader struct{ name, command string }
	for _, e := range b.engines() {
		t := time.Now()
		err := e.docker("run", "--name", "bench-logs", "--log-opt", "max-size=-1", "-d", "-v", file+":/lines:ro", fixture.Image, "sh", "-c", cat)
		if err := errors.Join(err, e.docker("wait", "bench-logs")); err != nil {
			return err
		}
		written := time.Since(t)
		readers := []reader{{"docker against " + e.name, "docker -H unix://" + e.socket}}
		if e == b.tare {
			readers = append(readers, reader{"tare", filepath.Join(b.o.bin, "tare") + " -H unix://" + e.socket})
		}
		for _, r := range readers {
			t = time.Now()
			out, err := exec.Command("sh", "-c", r.command+" logs bench-logs | wc -l").Output()
			if err != nil {
				return err
			}
			got, _ := strconv.Atoi(strings.TrimSpace(string(out)))
			fmt.Printf("| %s | %.0f | %.0f | %d |\n", r.name, megabytes/written.Seconds(), megabytes/time.Since(t).Seconds(), lines*times-got)
		}
		if err := e.docker("rm", "bench-logs"); err != nil {
			return err
		}
	}
	fmt.Println()
	return errors.Join(os.Remove(file), os.Remove(b.path("copy")))
}

// loads times loading a large image, if its archive was made (test/images).
func (b *bench) loads() error {
	archive := os.Getenv("TARE_BENCH_IMAGE")
	if archive == "" {
		fmt.Printf("load: set TARE_BENCH_IMAGE to an archive made by test/images/make.sh debian\n\n")
		return nil
	}
	fmt.Printf("| load of %s | s |\n|---|---|\n", filepath.Base(archive))
	floor, err := timed(func() error {
		return errors.Join(command("sh", "-c", "mkdir "+b.path("untar")+" && tar -C "+b.path("untar")+" -xf "+archive+" && sha256sum "+archive), os.RemoveAll(b.path("untar")))
	})
	if err != nil {
		return err
	}
	fmt.Printf("| floor: tar and sha256sum of the outer file | %.2f |\n", floor.Seconds())
	for _, e := range b.engines() {
		t := time.Now()
		if err := e.docker("load", "-q", "-i", archive); err != nil {
			return err
		}
		fmt.Printf("| docker load against %s | %.2f |\n", e.name, time.Since(t).Seconds())
	}
	fmt.Println()
	return nil
}
