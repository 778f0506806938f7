package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/metrics"
	"github.com/tare-engine/tare/internal/server"
)

// metricsServer answers Prometheus.
type metricsServer struct {
	observe func(server.Answered) // to be told of requests; nil: nothing is counted
	http    *http.Server
	served  sync.WaitGroup
}

// serveMetrics begins to answer at an address; with none there is no server, and nothing
// is counted.
func serveMetrics(addr string, e metrics.Engine) (*metricsServer, error) {
	if addr == "" {
		return &metricsServer{}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics-addr: %w", err)
	}
	all := metrics.New(e)
	s := &metricsServer{
		observe: func(a server.Answered) {
			all.Answered(a.Operation, a.Status, a.Began.Seconds(), a.Took.Seconds())
		},
		http: &http.Server{Handler: all.Handler(), ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10},
	}
	s.served.Go(func() {
		if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			slog.Error("metrics are not served any more", "err", err)
		}
	})
	return s, nil
}

// close ends the server and its connections.
func (s *metricsServer) close() {
	if s.http != nil {
		_ = s.http.Close()
		s.served.Wait()
	}
}

// checkMetricsAddr wants an address and a port.
func checkMetricsAddr(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || port == "" || strings.Contains(host, "/") {
		return errors.New("want ADDRESS:PORT, such as 127.0.0.1:9323")
	}
	return checkTCP(s)
}
