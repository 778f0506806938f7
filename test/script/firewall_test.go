//go:build root

package script

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFirewallIntegration has an engine come and go beside rules as Docker makes them,
// with and without the option, while its containers run on.
func TestFirewallIntegration(t *testing.T) {
	dir := workdir(t)
	args := []string{"--data-root", dir + "/data", "--exec-root", dir + "/run", "--log-level", "warn"}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(programs(t), "tared"), append(args[:4], "--uninstall")...).CombinedOutput(); err != nil {
			t.Errorf("uninstall: %v: %s", err, out)
		}
		if got := shell(t, "iptables-nft -S FORWARD; nft delete table ip filter"); got != "-P FORWARD DROP" {
			t.Errorf("after the end: %s", got)
		}
	})
	shell(t, "iptables-nft -P FORWARD DROP")
	ask := []string{"exec", "client", "timeout", "1", "wget", "-qO-", "http://172.17.0.1:18130/"}
	for _, integrate := range []bool{false, true, false} {
		t.Run(map[bool]string{true: "with", false: "without"}[integrate], func(t *testing.T) {
			more := args
			if integrate {
				more = append(more, "--firewall-integration")
			}
			e := start(t, &engine{socket: dir + "/engine.sock", bin: programs(t)}, dir, filepath.Join(programs(t), "tared"), more...)
			e.docker = filepath.Join(programs(t), "tare")
			if e.output(t, "ps", "-q") == "" {
				e.load(t, "busybox.tar")
				e.output(t, "run", "-d", "--name", "client", "busybox", "sleep", "1000")
				e.output(t, "run", "-d", "--name", "server", "-p", "18130:80", "busybox", "sh", "-c", "mkdir /w; echo page >/w/index.html; httpd -f -h /w -p 80")
				e.output(t, "exec", "server", "sh", "-c", "until wget -qO- http://127.0.0.1/; do sleep .1; done")
			}
			info, rules := e.output(t, "info"), shell(t, "iptables-nft -S FORWARD")
			warns := strings.Contains(info, "WARNING: firewall chain ip filter FORWARD drops forwarded packets of containers (policy drop)")
			if warns == integrate || strings.Contains(rules, "-j ACCEPT") != integrate {
				t.Errorf("%s\n%s", info, rules)
			}
			if integrate {
				expect(t, "published", e.output(t, ask...), "page")
				e.output(t, "network", "explain", "--from", "client", "tcp/18130")
			} else {
				e.fails(t, "", ask...)
				e.fails(t, "table ip filter chain FORWARD: policy drop", "network", "explain", "--from", "client", "tcp/18130")
			}
		})
	}
	e := start(t, &engine{socket: dir + "/engine.sock", bin: programs(t)}, dir, filepath.Join(programs(t), "tared"), append(args, "--firewall-integration")...)
	e.docker = filepath.Join(programs(t), "tare")
	e.output(t, "rm", "-f", "client", "server")
}

func shell(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}
