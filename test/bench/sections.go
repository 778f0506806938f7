package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
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
	stream, err := c.Run(context.Background(), req)
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

const execName = "bench-exec"

func (b *bench) execs() error {
	for _, e := range b.engines() {
		if err := e.docker("run", "-d", "--name", execName, fixture.Image, "sleep", "3600"); err != nil {
			return err
		}
		defer e.docker("rm", "-f", execName)
	}
	c, err := b.client()
	if err != nil {
		return err
	}
	ct, err := c.ContainerInspect(context.Background(), execName)
	if err != nil {
		return err
	}
	pid := strconv.Itoa(ct.State.Pid)
	rows := []contestant{
		{"nsenter -a, true", func() error { return command("nsenter", "-t", pid, "-a", "/bin/true") }},
		{"exec true from a running client (create, start)", b.execRequest},
	}
	rows = append(rows, contestant{"tare exec true", func() error { return b.tareCLI("exec", execName, "true") }},
		contestant{"tare ps", func() error { return b.tareCLI("ps") }},
		contestant{"tare inspect", func() error { return b.tareCLI("inspect", execName) }})
	for _, e := range b.engines() {
		rows = append(rows, contestant{"docker exec true against " + e.name, func() error { return e.docker("exec", execName, "true") }},
			contestant{"docker ps against " + e.name, func() error { return e.docker("ps") }})
	}
	return b.race("exec, ps, inspect", b.o.rounds, rows...)
}

// execRequest is an exec without a command line.
func (b *bench) execRequest() error {
	c, err := b.client()
	if err != nil {
		return err
	}
	ctx := context.Background()
	id, err := c.ExecCreate(ctx, execName, container.ExecCreateRequest{AttachStdout: true, AttachStderr: true, Cmd: []string{"true"}})
	if err != nil {
		return err
	}
	stream, err := c.ExecAttach(ctx, id, api.ExecStartRequest{})
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := stream.Output(io.Discard, io.Discard, false); err != nil {
		return err
	}
	x, err := c.ExecInspect(ctx, id)
	if err == nil && (x.Running || x.ExitCode == nil || *x.ExitCode != 0) {
		err = fmt.Errorf("the exec has not ended well: %+v", x)
	}
	return err
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

// starts starts containers that have been created, all at once, by requests of one
// running client, on each kind of network.
func (b *bench) starts() error {
	const at = 100
	c, err := b.client()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := c.NetworkCreate(ctx, network.CreateRequest{Name: "bench-starts"}); err != nil {
		return err
	}
	fmt.Printf("| %d containers that are there, started at once | median s | best s |\n|---|---|---|\n", at)
	for _, name := range []string{"none", "bridge", "bench-starts"} {
		var all []time.Duration
		for range max(1, min(10, b.o.rounds)) {
			took, err := b.startAtOnce(c, name, at)
			if err != nil {
				return err
			}
			all = append(all, took)
		}
		slices.Sort(all)
		fmt.Printf("| network %s | %.2f | %.2f |\n", name, all[len(all)/2].Seconds(), all[0].Seconds())
	}
	fmt.Println()
	return c.NetworkRemove(ctx, "bench-starts")
}

// startAtOnce creates containers, starts them, which is timed, and removes them.
func (b *bench) startAtOnce(c *client.Client, network string, n int) (time.Duration, error) {
	ctx := context.Background()
	ids := make([]string, n)
	for i := range ids {
		made, err := c.ContainerCreate(ctx, api.CreateOptions{}, container.CreateRequest{
			Config:     &container.Config{Image: fixture.Image, Cmd: []string{"sleep", "36000"}},
			HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(network)},
		})
		if err != nil {
			return 0, err
		}
		ids[i] = made.ID
	}
	time.Sleep(3 * time.Second) // what was made ahead for some of them is given up
	var next atomic.Int64
	took, err := together(n, func() error { return c.ContainerStart(ctx, ids[next.Add(1)-1]) })
	next.Store(0)
	_, rerr := together(n, func() error { return c.ContainerRemove(ctx, ids[next.Add(1)-1], api.RemoveOptions{Force: true}) })
	time.Sleep(time.Second)
	return took, errors.Join(err, rerr)
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
