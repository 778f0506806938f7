//go:build root

package network

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network/limit"
)

// slow is a rate far below that of any machine.
const slow = 256 << 10

// flow sends bytes from one namespace to a server in another, and returns how many came
// through, and how many a bucket of a rate would have let through in that time.
func flow(t *testing.T, from, to *os.File, addr string, rate float64) (bytes, budget float64) {
	t.Helper()
	const amount = 512 << 10
	var l net.Listener
	must(t, netns.Do(to, func() (err error) { l, err = net.Listen("tcp", addr); return err }))
	defer l.Close()
	go netns.Do(from, func() error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(make([]byte, amount))
		return err
	})
	c, err := l.Accept()
	must(t, err)
	defer c.Close()
	start := time.Now()
	n, err := io.Copy(io.Discard, c)
	must(t, err)
	if n != amount {
		t.Fatalf("%d bytes of %d", n, amount)
	}
	const burst = 64 << 10 // of the bucket, and what was on its way before the first byte was read
	return float64(n), rate*time.Since(start).Seconds() + burst
}

// TestRatesAreKept in the direction that was asked for, and only there; with a change
// of them, and without them.
func TestRatesAreKept(t *testing.T) {
	s := openService(t, Config{})
	s.maxPorts = 2
	peer := attach(t, s)
	for _, routed := range []bool{false, true} {
		e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c", Limits: api.NetworkLimits{RateIn: slow}})
		must(t, err)
		if e.Beside != routed {
			t.Fatal(e.Beside)
		}
		check := func(what string, in, out bool) {
			t.Helper()
			for _, way := range []struct {
				what     string
				from, to *Endpoint
				limited  bool
			}{{"in", peer, e, in}, {"out", e, peer, out}} {
				// Without a limit it is a multiple of the budget, once the machine has time.
				attempts := 1
				if !way.limited {
					attempts = 10
				}
				var bytes, budget float64
				for range attempts {
					if bytes, budget = flow(t, way.from.NetNS, way.to.NetNS, way.to.IP.Addr().String()+":80", slow); bytes > 2*budget {
						break
					}
				}
				if way.limited && bytes > budget || !way.limited && bytes < 2*budget {
					t.Errorf("%s, %s: %.0f bytes, %.0f are the limit's", what, way.what, bytes, budget)
				}
			}
		}
		check("in", true, false)
		must(t, s.Limit(e.ContainerID, api.NetworkLimits{RateOut: slow}))
		check("out", false, true)
		must(t, s.Limit(e.ContainerID, api.NetworkLimits{RateIn: slow, RateOut: slow}))
		must(t, netns.Do(e.NetNS, func() error { // its root tries to take them off
			shell(t, "tc qdisc add dev eth0 root bfifo; tc qdisc add dev eth0 ingress; tc qdisc del dev eth0 root; tc qdisc del dev eth0 ingress")
			return nil
		}))
		check("both", true, true)
		must(t, s.Limit(e.ContainerID, api.NetworkLimits{}))
		check("none", false, false)
		if got := links(t, "e1:"+e.ContainerID); len(got) != 1 {
			t.Errorf("left: %v", got)
		}
		must(t, s.Limit(e.ContainerID, api.NetworkLimits{RateOut: slow}))
		must(t, s.Release(context.Background(), e.ContainerID))
		eventually(t, "its links go", func() bool { return len(links(t, "e1:"+e.ContainerID)) == 0 })
	}
}

// queues lists what holds back packets of an endpoint.
func queues(t *testing.T, e *Endpoint) string {
	t.Helper()
	var all []string
	for _, link := range []string{e.Link, limit.Second(e.Link)} {
		for _, what := range [][]string{{"qdisc", "show"}, {"filter", "show"}} {
			args := append(what, "dev", link)
			if what[0] == "filter" {
				args = append(args, "ingress")
			}
			out, _ := exec.Command("tc", args...).CombinedOutput()
			all = append(all, string(out))
		}
	}
	return strings.Join(all, "")
}

// TestLimitsAreRestored whatever of them is taken away, and taken over by the next
// engine.
func TestLimitsAreRestored(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	var log lockedBuilder
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, _ := reopen(t, cfg, nil, nil)
	limits := api.NetworkLimits{RateIn: slow, RateOut: slow}
	e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c", Limits: limits})
	must(t, err)
	whole := func(e *Endpoint) bool {
		q := queues(t, e)
		return strings.Count(q, "tbf") == 2 && strings.Contains(q, "Redirect to device "+limit.Second(e.Link))
	}
	if !whole(e) {
		t.Fatal(queues(t, e))
	}
	must(t, s.Limit(e.ContainerID, api.NetworkLimits{RateOut: slow}))
	must(t, s.Limit(e.ContainerID, limits))
	for i, line := range []string{
		"tc qdisc del dev LINK root", "tc qdisc del dev LINK ingress", "tc qdisc del dev SECOND root", "ip link del SECOND",
		"tc qdisc replace dev LINK root handle 7: bfifo", "ip link set SECOND down",
	} {
		shell(t, strings.NewReplacer("LINK", e.Link, "SECOND", limit.Second(e.Link)).Replace(line))
		eventually(t, line, func() bool { return whole(e) })
		const told = "limits of a container were removed by another program; restored"
		eventually(t, line+" is told", func() bool { return log.count(told) > i })
		if i == 0 && log.count(told) > 1 {
			t.Error("what the engine has done itself is told of another")
		}
	}
	rec := roundTrip(t, e.Record)
	stray, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "stray", Limits: limits})
	must(t, err)
	shell(t, "tc qdisc del dev "+e.Link+" ingress")
	ns := e.NetNS
	e.NetNS = nil
	abandon(t, s)
	defer ns.Close()
	next, report := reopen(t, cfg, []Record{rec}, nil)
	if len(report.Lost) > 0 || !slices.Contains(report.Removed, "link "+limit.Second(stray.Link)) { // the kernel may have removed the other
		t.Errorf("%+v", report)
	}
	again := next.Endpoints(e.ContainerID)[0]
	if again.Limits != limits || !whole(again) {
		t.Errorf("%+v %s", again.Limits, queues(t, again))
	}
	if got := links(t, "e1:"+stray.ContainerID); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	must(t, errors.Join(ns.Close(), next.Release(context.Background(), e.ContainerID)))
	eventually(t, "nothing is left", func() bool { return len(links(t, "e1:")) == 0 })
	must(t, errors.Join(next.Destroy(), next.Close()))
}

// TestLimitsThatAreRefused name what the kernel lacks, or the network that has none.
func TestLimitsThatAreRefused(t *testing.T) {
	s := openService(t, Config{})
	some := api.NetworkLimits{RateIn: slow, RateOut: slow}
	must(t, s.CheckLimits(some))
	for _, name := range []string{"host", "none"} {
		if err := s.Check(Request{Network: name, Limits: some}); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "network "+name+": ") {
			t.Error(err)
		}
	}
	delayed := api.NetworkLimits{Delay: time.Millisecond}
	err := s.CheckLimits(delayed)
	if exec.Command("tc", "qdisc", "add", "dev", "lo", "root", "netem").Run() == nil {
		shell(t, "tc qdisc del dev lo root")
		must(t, err)
		return
	}
	if want := "tare.net-delay: this kernel has no queue that delays and loses packets (module sch_netem)"; !errdefs.Is(err, errdefs.InvalidArgument) || err.Error() != want {
		t.Error(err)
	}
	_, err = s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c", Limits: delayed})
	if !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Error(err)
	}
	eventually(t, "nothing is left", func() bool { return len(links(t, "e1:")) == 0 })
}

// TestDelayAndLoss: answers take their time, and some do not come.
func TestDelayAndLoss(t *testing.T) {
	s := openService(t, Config{})
	if err := s.CheckLimits(api.NetworkLimits{Loss: 1}); err != nil {
		t.Skip("this kernel has no netem: ", err)
	}
	peer := attach(t, s)
	const delay = 30 * time.Millisecond
	e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c", Limits: api.NetworkLimits{Delay: delay, RateIn: slow}})
	must(t, err)
	addr := e.IP.Addr().String() + ":80"
	serve(t, e.NetNS, "udp", addr)
	start := time.Now()
	wantAnswer(t, "delayed", peer.NetNS, "udp", addr, peer.IP.Addr().String())
	if took := time.Since(start); took < delay {
		t.Errorf("an answer after %v", took)
	}
	bytes, budget := flow(t, peer.NetNS, e.NetNS, e.IP.Addr().String()+":81", slow)
	if bytes > budget {
		t.Errorf("%.0f bytes, %.0f are the limit's", bytes, budget)
	}
	must(t, s.Limit(e.ContainerID, api.NetworkLimits{Loss: 100}))
	wantNoAnswer(t, "all is lost", peer.NetNS, "udp", addr)
	must(t, s.Limit(e.ContainerID, api.NetworkLimits{Loss: 50}))
	answers := 0
	for range 20 {
		if _, err := ask(peer.NetNS, "udp", addr); err == nil {
			answers++
		}
	}
	if answers == 0 || answers == 20 {
		t.Errorf("%d answers of 20, half is lost", answers)
	}
	must(t, s.Limit(e.ContainerID, api.NetworkLimits{}))
	wantAnswer(t, "undisturbed", peer.NetNS, "udp", addr, peer.IP.Addr().String())
}
