package server

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDockerUnderstands lets the real command lines read our answers: a new
// one, and Debian's (20.10, version 1.41 of the API).
func TestDockerUnderstands(t *testing.T) {
	found := map[string]bool{}
	for _, docker := range []string{"/usr/local/bin/docker", "/usr/bin/docker"} {
		real, err := filepath.EvalSymlinks(docker)
		if err != nil || found[real] {
			continue
		}
		found[real] = true
		t.Run(docker, func(t *testing.T) { dockerUnderstands(t, docker) })
	}
	if len(found) == 0 {
		t.Skip("this host has no docker command line")
	}
}

func dockerUnderstands(t *testing.T, docker string) {
	f := &fake{waitGo: make(chan struct{})}
	close(f.waitGo)
	path := newServer(t, f)
	tests := []struct {
		args, stdin string
		code        int
		want        string
	}{
		{"version --format {{.Server.Version}}/{{.Server.APIVersion}}", "", 0, "0.1/1.56"},
		{"ps --format {{.Names}}|{{.Image}}|{{.Status}}|{{.Ports}}", "", 0, "c1|img|Up About a minute|0.0.0.0:8080->80/tcp"},
		{"info --format {{.ServerVersion}}", "", 0, "0.1"},
		{"inspect c1 --format {{.Name}}|{{.State.Status}}", "", 0, "/c1|running"},
		{"inspect nope", "", 1, "No such object: nope"},
		{"container inspect nope", "", 1, "No such container: nope"},
		{"events --until 1 --format {{.Type}}|{{.Action}}|{{.Actor.ID}}", "", 0, "container|start|" + fakeID},
		{"images --format {{.Repository}}|{{.ID}}", "", 0, "<none>|" + fakeID[:12]},
		{"image inspect img --format {{.Os}}/{{.Architecture}}", "", 0, "linux/amd64"},
		{"create --name c2 img true", "", 0, fakeID},
		{"stop -t 1 c1", "", 0, "c1"},
		{"kill -s HUP c1", "", 0, "c1"},
		{"wait c1", "", 0, "3"},
		{"logs c1", "", 0, "out"},
		{"top c1", "", 0, "PID"},
		{"exec -i c1 cat", "typed\n", 0, "typed"},
		{"load", "good", 0, "Loaded image: img:latest"},
		{"load", "bad", 1, "archive: not a tar"},
		{"tag img a:b", "", 0, ""},
		{"rmi img", "", 0, "Untagged: img"},
		{"network ls --format {{.Name}}", "", 0, "bridge"},
		{"container prune -f", "", 0, "Total reclaimed space: 7B"},
		{"ps --filter nope=x", "", 1, "invalid filter 'nope'"},
		{"system prune -f", "", 0, "Total reclaimed space: 7B"},
		{"run nope true", "", 125, "pull access denied for nope"},
		{"node ls", "", 1, "This node is not a swarm manager"},
		{"plugin ls --format {{.Name}}", "", 0, ""},
		{"system df --format {{.Type}}|{{.Size}}", "", 0, "Images|42B"},
	}
	for _, tt := range tests {
		cmd := exec.CommandContext(t.Context(), docker, append([]string{"-H", "unix://" + path}, strings.Fields(tt.args)...)...)
		cmd.Env = []string{"HOME=" + t.TempDir()}
		cmd.Stdin = strings.NewReader(tt.stdin)
		cmd.WaitDelay = time.Second
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.want) {
			t.Errorf("docker %s: exit %d, want %d; output %q, want %q", tt.args, code, tt.code, out, tt.want)
		}
	}
}
