package metrics

import (
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/engine"
)

// fake is an engine with three containers, of which one runs.
type fake struct{ away bool }

func (fake) Facts() engine.Facts {
	return engine.Facts{ID: "E", Version: "0.1", Driver: "overlay", CPUs: 2, Memory: 1 << 30}
}

func (f fake) KeeperPid() (int, bool) { return os.Getpid(), !f.away }

func view(id, name string, status own.Status, last own.Outcome) *own.View {
	return &own.View{Status: status, Started: last.StartedAt, Record: &own.Record{ID: id, Name: name, Last: last,
		Config: &container.Config{Image: `a"b\c`}, HostConfig: &container.HostConfig{Runtime: "tare"}}}
}

func (fake) Counts() engine.Counts {
	began := time.UnixMilli(1500)
	up := view("1", "web", own.Running, own.Outcome{StartedAt: began, Restarts: 2})
	up.Health = container.Unhealthy
	return engine.Counts{
		Cells: own.CellCounts{Ready: 3, Claimed: 1, Hits: 5, Misses: 2}, KeepersLost: 1, Events: 9, Listeners: 2, Probes: 7, ProbesFailed: 4,
		Containers: []*own.View{up, view("2", "job", own.Exited, own.Outcome{StartedAt: began, ExitCode: 137, OOMKilled: true}), view("3", "new", own.Created, own.Outcome{})},
		Running: []*container.StatsResponse{
			{
				ID: "1", CPUStats: container.CPUStats{CPUUsage: container.CPUUsage{TotalUsage: 3e9, UsageInUsermode: 2e9, UsageInKernelmode: 1e9}},
				MemoryStats: container.MemoryStats{Usage: 1000, Limit: 5000, Stats: map[string]uint64{"inactive_file": 300}},
				PidsStats:   container.PidsStats{Current: 4, Limit: 4096},
				BlkioStats: container.BlkioStats{IoServiceBytesRecursive: []container.BlkioStatEntry{
					{Major: 8, Op: "read", Value: 10}, {Major: 8, Op: "Write", Value: 20}, {Major: 8, Op: "Sync", Value: 30}, {Major: 8, Op: "Total", Value: 30}},
					IoServicedRecursive: []container.BlkioStatEntry{{Major: 8, Op: "read", Value: 1}}},
				Networks: map[string]container.NetworkStats{"eth0": {RxBytes: 11, TxBytes: 12}},
			},
			{ID: "4"}, // it has come since
		},
	}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatal(w.Code, err, string(b))
	}
	return string(b)
}

func TestScrape(t *testing.T) {
	m := New(fake{})
	m.Answered("POST /containers/{name}/start", 204, .02, .03)
	m.Answered("POST /containers/{name}/start", 404, .001, .001)
	m.Answered("POST /containers/{name}/attach", 101, 0, 5)
	m.Answered("", 404, .001, .001)
	got := scrape(t, m)
	for _, want := range []string{
		`tare_api_requests_total{code="204",operation="POST /containers/{id}/start"} 1`,
		`tare_api_requests_total{code="101",operation="POST /containers/{id}/attach"} 1`,
		`tare_api_requests_total{code="404",operation="unknown"} 1`,
		`tare_api_request_seconds_bucket{operation="POST /containers/{id}/start",le="0.01"} 1`,
		`tare_api_request_seconds_count{operation="POST /containers/{id}/start"} 2`,
		`engine_daemon_container_actions_seconds_count{action="start"} 1`,
		`engine_daemon_container_actions_seconds_count{action="commit"} 0`,
		`engine_daemon_container_states_containers{state="running"} 1`,
		`engine_daemon_container_states_containers{state="stopped"} 2`,
		`engine_daemon_engine_cpus_cpus 2`,
		`engine_daemon_events_total 9`,
		`engine_daemon_health_checks_failed_total 4`,
		`tare_cells_ready 3`, `tare_cells_asked_total{result="miss"} 2`, `tare_keeper_up 1`, `tare_keeper_losses_total 1`,
		`tare_container_info{id="1",image="a\"b\\c",name="web",runtime="tare"} 1`,
		`tare_container_state{id="2",name="job",state="exited"} 1`,
		`tare_container_health{health="unhealthy",id="1",name="web"} 1`,
		`tare_container_restarts_total{id="1",name="web"} 2`,
		`tare_container_started_timestamp_seconds{id="1",name="web"} 1.5`,
		`tare_container_exit_code{id="2",name="job"} 137`, `tare_container_oom_killed{id="2",name="job"} 1`,
		`tare_container_cpu_seconds_total{id="1",name="web"} 3`,
		`tare_container_memory_working_set_bytes{id="1",name="web"} 700`,
		`tare_container_io_bytes_total{device="8:0",id="1",name="web",op="write"} 20`,
		`tare_container_network_bytes_total{direction="transmit",id="1",interface="eth0",name="web"} 12`,
		"process_open_fds ", "tare_keeper_process_open_fds ", "go_goroutines ",
	} {
		if !strings.Contains(got, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	for _, not := range []string{`tare_container_exit_code{id="1"`, `tare_container_exit_code{id="3"`, `id="4"`, "Sync", "sync", `tare_api_request_seconds_count{operation="POST /containers/{id}/attach"}`} {
		if strings.Contains(got, not) {
			t.Errorf("there is %s", not)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestWithoutAKeeper(t *testing.T) {
	got := scrape(t, New(fake{away: true}))
	if !strings.Contains(got, "\ntare_keeper_up 0") || strings.Contains(got, "tare_keeper_process_open_fds") {
		t.Error(got)
	}
}

// TestEveryMetricIsDocumented, and there is nothing else in the document.
func TestEveryMetricIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:tare|engine)_[a-z_]+)`").FindAllStringSubmatch(string(b), -1) {
		documented[m[1]] = true
	}
	m := New(fake{})
	m.Answered("POST /containers/{name}/start", 204, .02, .03)
	there := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(scrape(t, m), -1) {
		if name := line[1]; strings.HasPrefix(name, "tare_") && !strings.HasPrefix(name, "tare_keeper_process_") || strings.HasPrefix(name, "engine_") {
			there[name] = true
		}
	}
	for name := range there {
		if !documented[name] {
			t.Errorf("%s is not in docs/metrics.md", name)
		}
	}
	for name := range documented {
		if !there[name] {
			t.Errorf("docs/metrics.md has %s, which there is not", name)
		}
	}
	if len(there) < 40 {
		t.Errorf("only %d metrics seen", len(there))
	}
}
