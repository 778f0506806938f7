// Package metrics is the engine in numbers, for Prometheus: docs/metrics.md lists them.
//
// Requests are counted when they have been answered (Answered); all else is measured when
// somebody asks, and costs nothing until then.
package metrics

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tare-engine/tare/internal/engine"
)

// Engine is what is measured.
type Engine interface {
	Facts() engine.Facts
	Counts() engine.Counts
	KeeperPid() (int, bool)
}

// Metrics gathers the numbers of an engine. Safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	dockers  map[string]*prometheus.HistogramVec // dockerd's, by the metric's name
}

// New returns the metrics of e.
func New(e Engine) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tare_api_requests_total", Help: "Requests that have been answered, by operation and status.",
		}, []string{"operation", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tare_api_request_seconds", Help: "Time from a request to the beginning of its answer, by operation.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"operation"}),
		dockers: map[string]*prometheus.HistogramVec{},
	}
	m.registry.MustRegister(m.requests, m.latency, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: "tare_keeper", PidFn: func() (int, error) { return keeperPid(e) }}),
		newCounts(e))
	for _, a := range actions {
		h := m.dockers[a.metric]
		if h == nil {
			h = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: a.metric, Help: a.help}, []string{"action"})
			m.registry.MustRegister(h)
			m.dockers[a.metric] = h
		}
		h.WithLabelValues(a.action) // it is there before the first
	}
	return m
}

func keeperPid(e Engine) (int, error) {
	pid, ok := e.KeeperPid()
	if !ok {
		return 0, errors.New("the keeper is being replaced")
	}
	return pid, nil
}

// actions are the operations that dockerd measures, by its names.
var actions = []struct{ operation, metric, action, help string }{
	{"POST /containers/create", containerActions, "create", containerHelp},
	{"POST /containers/{name}/start", containerActions, "start", containerHelp},
	{"DELETE /containers/{name}", containerActions, "delete", containerHelp},
	{"GET /containers/{name}/changes", containerActions, "changes", containerHelp},
	{"POST /commit", containerActions, "commit", containerHelp},
	{"POST /networks/{name}/connect", networkActions, "connect", networkHelp},
	{"POST /images/create", imageActions, "pull", imageHelp},
	{"POST /images/{name}/push", imageActions, "push", imageHelp},
	{"DELETE /images/{name}", imageActions, "delete", imageHelp},
	{"GET /images/{name}/history", imageActions, "history", imageHelp},
}

const (
	containerActions = "engine_daemon_container_actions_seconds"
	containerHelp    = "The number of seconds it takes to process each container action"
	networkActions   = "engine_daemon_network_actions_seconds"
	networkHelp      = "The number of seconds it takes to process each network action"
	imageActions     = "engine_daemon_image_actions_seconds"
	imageHelp        = "The number of seconds it takes to process each image action"
)

// Answered counts a request that has been answered, of a connection that was taken over
// without its time. An operation that there is not is "".
func (m *Metrics) Answered(operation string, status int, began, took float64) {
	name := strings.ReplaceAll(operation, "{name}", "{id}")
	if operation == "" {
		name = "unknown"
	}
	m.requests.WithLabelValues(name, strconv.Itoa(status)).Inc()
	if status == http.StatusSwitchingProtocols || operation == "" {
		return
	}
	m.latency.WithLabelValues(name).Observe(began)
	if status >= http.StatusBadRequest {
		return
	}
	for _, a := range actions {
		if a.operation == operation {
			m.dockers[a.metric].WithLabelValues(a.action).Observe(took)
		}
	}
}

// Handler serves the metrics at /metrics, two answers at a time.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, ErrorHandling: promhttp.ContinueOnError}))
	return mux
}
