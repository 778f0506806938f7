//go:build root

package script

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// freePort is one of loopback that nobody has just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestSettings has an engine with its own ideas of containers, with numbers for Prometheus and
// an authorization plugin, and changes them while it runs.
func TestSettings(t *testing.T) {
	var refuses atomic.Bool
	l, err := net.Listen("unix", pluginSockets+"/judge.sock")
	if err != nil {
		t.Fatal(err)
	}
	judge := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/Plugin.Activate" {
			io.WriteString(w, `{"Implements":["authz"]}`)
			return
		}
		var q struct{ RequestUri string }
		json.NewDecoder(r.Body).Decode(&q)
		fmt.Fprintf(w, `{"Allow":%v,"Msg":"not now"}`, !refuses.Load() || !strings.Contains(q.RequestUri, "/stop"))
	})}
	go judge.Serve(l)
	t.Cleanup(func() { judge.Close() })

	dir, metrics := workdir(t), freePort(t)
	e := startTaredIn(t, dir, "--metrics-addr", metrics, "--no-new-privileges", "--default-ulimit", "nofile=100:200", "--default-ipc-mode", "shareable", "--authorization-plugin", "judge")
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	file := func(text string) {
		t.Helper()
		if err := os.WriteFile(dir+"/daemon.json", []byte(`{"cdi-spec-dirs": ["`+e.cdi+`"], `+text+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := e.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	file(`"labels": ["a=b"], "log-driver": "local", "default-shm-size": "8m", "init": true`)
	e.shows(t, "[a=b] local", "info", "-f", "{{.Labels}} {{.LoggingDriver}}")
	if got := e.output(t, "info", "-f", "{{.SecurityOptions}} {{.Plugins.Authorization}}"); !strings.HasSuffix(got, "name=cgroupns name=no-new-privileges] [judge]") {
		t.Errorf("info says %s", got)
	}
	e.output(t, "run", "-d", "--name", "box", "--health-cmd", "true", "busybox", "sleep", "1000")
	if got := e.output(t, "inspect", "-f", "{{.HostConfig.LogConfig.Type}} {{.HostConfig.Init}} {{.HostConfig.ShmSize}} {{.HostConfig.IpcMode}} {{.HostConfig.SecurityOpt}}", "box"); got != "local true 8388608 shareable [no-new-privileges=true]" {
		t.Errorf("the container has %s", got)
	}
	if got := e.output(t, "exec", "box", "sh", "-c", "ulimit -Sn; ulimit -Hn; grep NoNewPrivs /proc/self/status; cat /proc/1/comm"); got != "100\n200\nNoNewPrivs:\t1\ntare-init" && got != "100\n200\nNoNewPrivs:\t1\ndocker-init" {
		t.Errorf("its program sees %q", got)
	}
	e.fails(t, "network driver judge: network drivers of plugins are not offered: use bridge, macvlan or ipvlan", "network", "create", "-d", "judge", "n")
	e.fails(t, "could not find plugin nosuch in v1 plugin registry: plugin not found", "network", "create", "-d", "nosuch", "n")
	refuses.Store(true)
	e.fails(t, "authorization denied by plugin judge: not now", "stop", "-t", "0", "box")
	res, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	id := e.output(t, "inspect", "-f", "{{.Id}}", "box")
	for _, want := range []string{
		`tare_container_memory_bytes{id="` + id + `",name="box"} `, `tare_container_pids{id="` + id + `",name="box"} `, `tare_container_network_bytes_total{direction="receive",id="` + id + `",interface="eth0",name="box"} `,
		`tare_api_requests_total{code="403",operation="POST /containers/{id}/stop"} 1`, `engine_daemon_container_states_containers{state="running"} 1`, "tare_keeper_up 1", "tare_keeper_process_resident_memory_bytes ", "engine_daemon_health_checks_total ",
	} {
		if !strings.Contains(string(b), "\n"+want) {
			t.Errorf("the numbers have no %s", want)
		}
	}
	e.output(t, "rm", "-f", "box")
	file(`"labels": ["c=d"]`)
	e.shows(t, "[c=d] json-file", "info", "-f", "{{.Labels}} {{.LoggingDriver}}")
	file(`"labels": ["e=f"], "log-driver": "nosuch"`) // it is in force as a whole or not at all
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if b, err := os.ReadFile(dir + "/log"); err != nil || strings.Contains(string(b), "the configuration in force is kept") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the engine has not said that the file is wrong")
		}
	}
	e.shows(t, "[c=d] json-file", "info", "-f", "{{.Labels}} {{.LoggingDriver}}")
	file(`"labels": []`)
}
