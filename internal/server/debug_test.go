package server

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestDebugIsServedWithDebug(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, &fake{}, Config{Debug: true, Log: discard})
	c := unixClient(t, path)
	for target, want := range map[string]string{
		"/debug/vars": `"memstats"`, "/debug/pprof/": "goroutine", "/v1.44/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile",
		"/debug/pprof/cmdline": "server.test", "/debug/pprof/symbol": "num_symbols",
	} {
		if res, body := do(t, c, "GET", target, "", ""); res.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", target, res.StatusCode, body)
		}
	}
	for target, want := range map[string]int{"/debug/pprof/nosuch": 404, "/debug/x": 404, "/debug": 404} {
		if res, _ := do(t, c, "GET", target, "", ""); res.StatusCode != want {
			t.Errorf("%s: %d", target, res.StatusCode)
		}
	}
}
