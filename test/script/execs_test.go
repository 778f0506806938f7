//go:build root

package script

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestExecsOutliveDeaths: what runs in a container beside its first process is
// still known, with its command, its user and its end, by the next engine, and a
// command that ends with its client does so over the death of both programs.
func TestExecsOutliveDeaths(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	execRoot := filepath.Join(filepath.Dir(e.socket), "run")
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "home", "busybox", "sleep", "1000")
	e.output(t, "exec", "-d", "--user", "7", "home", "sleep", "777")
	e.output(t, "exec", "-d", "home", "sh", "-c", `until test -e /go; do sleep 0.05; done; exit 3`)
	e.output(t, "exec", "-d", "home", "sh", "-c", `i=0; while :; do i=$((i+1)); echo $i; echo $i >/count; sleep 0.02; done`)
	client := exec.Command(e.docker, "-H", "unix://"+e.socket, "exec", "--end-with-client", "home", "sleep", "888")
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		client.Process.Kill()
		client.Wait()
	}()
	e.shows(t, "sleep 888", "exec", "ls", "home")
	ending := ""
	for line := range strings.Lines(e.output(t, "exec", "ls", "--no-trunc", "home")) {
		if strings.Contains(line, "until test") {
			ending = strings.Fields(line)[0]
		}
	}
	before := e.output(t, "exec", "ls", "home")
	e.kill(t)
	e.rise(t)
	if got := e.output(t, "exec", "ls", "home"); withoutAges(got) != withoutAges(before) {
		t.Errorf("execs before:\n%s\nafter:\n%s", before, got)
	}
	e.output(t, "exec", "home", "touch", "/go")
	await(t, "the exit code of an exec that an earlier engine has started", func() bool {
		return strings.Contains(e.get(t, "/exec/"+ending+"/json"), `"ExitCode":3,`)
	})

	e.kill(t)
	e.rise(t)
	killKeeper(t, execRoot)
	e.shows(t, "sleep 777", "exec", "ls", "home")
	await(t, "the end of a command whose client was the dead keeper's", func() bool {
		return !strings.Contains(e.output(t, "exec", "ls", "home"), "sleep 888")
	})
	count := func() string { return e.output(t, "exec", "home", "cat", "/count") }
	await(t, "output of a command by the new keeper", func() bool { before := count(); time.Sleep(100 * time.Millisecond); return count() != before })
	if got := e.output(t, "exec", "home", "sh", "-c", "ps | grep -c '[s]leep 888'; true"); got != "0" {
		t.Errorf("%s still run", got)
	}
	e.output(t, "rm", "-f", "home")
	if left, _ := filepath.Glob(filepath.Join(execRoot, "execs", "*")); len(left) > 0 {
		t.Errorf("records left: %q", left)
	}
}

// get asks the API and returns the body of what it answers.
func (e *engine) get(t *testing.T, path string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.socket)
	}}}
	resp, err := c.Get("http://engine" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// age is how long ago something was, as lists say it.
var age = regexp.MustCompile(`(Less than a second|About an? \w+|\d+ \w+) ago`)

// withoutAges leaves out what of a list changes with time.
func withoutAges(list string) string {
	var b strings.Builder
	for line := range strings.Lines(list) {
		b.WriteString(strings.Join(strings.Fields(age.ReplaceAllString(line, "")), " ") + "\n")
	}
	return b.String()
}
