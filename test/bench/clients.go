package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tare-engine/tare/test/fixture"
)

// clients has many clients at each engine do ten things each, and another one ask for
// the list of containers meanwhile.
func (b *bench) clients() error {
	fmt.Printf("| %d clients at once, ten operations each | wrong answers | all, s | ps: median ms | p99 ms | alone: median ms |\n|---|---|---|---|---|---|\n", b.o.clients)
	for _, e := range b.engines() {
		c := e.http()
		defer c.CloseIdleConnections()
		alone, err := lists(c, time.Now().Add(2*time.Second), nil)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		done := make(chan struct{})
		var wrong atomic.Int64
		began := time.Now()
		go func() {
			defer close(done)
			var all sync.WaitGroup
			for i := range b.o.clients {
				all.Go(func() { wrong.Add(e.tenOperations(fmt.Sprintf("clients-%d", i))) })
			}
			all.Wait()
		}()
		loaded, err := lists(c, time.Now().Add(time.Hour), done)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		<-done
		fmt.Printf("| %s | %d | %.1f | %.1f | %.1f | %.1f |\n", e.name, wrong.Load(), time.Since(began).Seconds(),
			ms(loaded[len(loaded)/2]), ms(loaded[len(loaded)*99/100]), ms(alone[len(alone)/2]))
	}
	fmt.Println()
	return nil
}

// lists asks for the list of running containers ten times a second, until a time or
// until done is closed, and returns how long each took, sorted.
func lists(c *http.Client, until time.Time, done <-chan struct{}) (all []time.Duration, err error) {
	for tick := time.NewTicker(100 * time.Millisecond); time.Now().Before(until); {
		began := time.Now()
		if status, err := answer(c, "GET", "/containers/json", ""); status != 200 {
			return nil, fmt.Errorf("list: %d %w", status, err)
		}
		all = append(all, time.Since(began))
		select {
		case <-done:
			tick.Stop()
			slices.Sort(all)
			return all, nil
		case <-tick.C:
		}
	}
	slices.Sort(all)
	return all, nil
}

// tenOperations returns how many of them were not answered as they should be.
func (e *engine) tenOperations(name string) (wrong int64) {
	c := e.http()
	defer c.CloseIdleConnections()
	for _, op := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/containers/create?name=" + name, `{"Image":"` + fixture.Image + `","Cmd":["true"],"HostConfig":{"NetworkMode":"none"}}`, 201},
		{"POST", "/containers/" + name + "/start", "", 204},
		{"GET", "/containers/json?limit=10", "", 200},
		{"POST", "/containers/" + name + "/wait", "", 200},
		{"GET", "/containers/" + name + "/json", "", 200},
		{"POST", "/volumes/create", `{"Name":"` + name + `"}`, 201},
		{"GET", "/containers/" + name + "-nosuch/json", "", 404},
		{"GET", "/containers/" + name + "/logs?stdout=1", "", 200},
		{"DELETE", "/volumes/" + name, "", 204},
		{"DELETE", "/containers/" + name, "", 204},
	} {
		if status, _ := answer(c, op.method, op.path, op.body); status != op.want {
			wrong++
		}
	}
	return wrong
}

// http is a client of the engine that keeps its connection.
func (e *engine) http() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.socket)
	}}}
}

// answer is the status of an answer that has been read to its end.
func answer(c *http.Client, method, path, body string) (status int, err error) {
	r, err := http.NewRequest(method, "http://engine"+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// scaled is the project of the section compose.
const scaled = `services:
  web:
    image: ` + fixture.Image + `
    command: ["sleep", "36000"]
    stop_signal: SIGKILL
`

// compose has compose, which `make client-test` makes, bring a hundred containers up
// and down again.
func (b *bench) compose() error {
	program := filepath.Join(b.o.bin, "clients", "compose")
	if _, err := os.Stat(program); err != nil {
		return errors.Join(err, errors.New("run make client-test first"))
	}
	file := b.path("scaled.yaml")
	if err := os.WriteFile(file, []byte(scaled), 0o600); err != nil {
		return err
	}
	fmt.Print("| compose, 100 of a service | up, median s | best | down, median s | best |\n|---|---|---|---|---|\n")
	for _, e := range b.engines() {
		compose := func(args ...string) (time.Duration, error) {
			cmd := exec.Command(program, append([]string{"-p", "scaled", "-f", file}, args...)...)
			cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.socket, "COMPOSE_PARALLEL_LIMIT=-1")
			began := time.Now()
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%s: compose %v: %w: %s", e.name, args, err, out)
			}
			return time.Since(began), err
		}
		var ups, downs []time.Duration
		for range max(1, min(5, b.o.rounds)) {
			up, err := compose("up", "-d", "--scale", "web=100")
			down, derr := compose("down", "-t", "0")
			if derr != nil { // dockerd may believe that containers which have gone are in the network
				again := time.Duration(0)
				again, derr = compose("down", "-t", "0")
				down += again
			}
			if err := errors.Join(err, derr); err != nil {
				return err
			}
			ups, downs = append(ups, up), append(downs, down)
		}
		slices.Sort(ups)
		slices.Sort(downs)
		fmt.Printf("| %s | %.2f | %.2f | %.2f | %.2f |\n", e.name, ups[len(ups)/2].Seconds(), ups[0].Seconds(), downs[len(downs)/2].Seconds(), downs[0].Seconds())
	}
	fmt.Println()
	return nil
}
