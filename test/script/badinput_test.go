//go:build root

package script

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// badLines are command lines that docker's command line and ours refuse in the
// same words, and with the same exit code. Where ours say more (detach keys, addresses)
// or know other words (types of objects, subcommands), they are not in the list. %C is a running container, %I an image; _ is a space.
var badLines = []string{
	// flags and arguments
	"run", "run --nosuch %I", "run --name", "create", "exec", "exec %C", "exec --nosuch %C true", "attach", "attach a b", "logs", "logs a b", "rm", "rm --nosuch x",
	"start", "stop", "stop -t x %C", "kill", "kill -s", "pause", "unpause", "restart", "rename a", "wait", "port", "top", "tag a", "rmi", "history", "inspect",
	"ps x", "ps -n x", "ps --nosuch", "images a b", "stats --nosuch", "network ls x", "network ls --nosuch", "network inspect", "network nosuch",
	"system nosuch", "context nosuch", "context use nosuch", "context inspect nosuch", "nosuch", "--nosuch ps", "-H a -H b ps", "-H foo://x ps", "--context nosuch ps", "-l nosuch ps",
	// what is not there
	"attach nosuch", "exec nosuch true", "inspect nosuch", "kill nosuch", "logs nosuch", "pause nosuch", "port nosuch", "rename nosuch other", "restart nosuch", "rm nosuch", "rm -f nosuch",
	"start nosuch", "stats nosuch", "stats --no-stream %C nosuch", "stop nosuch", "top nosuch", "unpause nosuch", "update -m 8m nosuch", "wait nosuch",
	"history nosuch", "image inspect nosuch", "rmi nosuch", "tag nosuch x", "network inspect nosuch", "run --pull never nosuch", "create --pull never nosuch", "port %C 81",
	// values
	"run -p xx %I", "run -p 80:99999 %I", "run -p 1-3:1-2 %I", "run -p 1.2.3:80:80 %I", "run -p 80/foo %I", "run -p 99999:80 %I",
	"run --mount type=foo %I", "run --mount type=bind %I", "run --mount type=bind,src=/x %I", "run --mount type=bind,foo=bar,dst=/y %I", "run --mount type=tmpfs,dst=rel %I", "run --mount type=bind,src=/nosuch,dst=/y %I",
	"run -v /a:b %I", "run -v :/b %I", "run -v /a:/b:foo %I", "run -v / %I", "run --tmpfs rel %I",
	"run --memory x %I", "run --memory 1k %I", "run --memory 64m --memory-swap 32m %I", "run --cpus x %I", "run --cpus 9999 %I", "run --cpuset-cpus 999 %I", "run --cpu-period 5 %I", "run --pids-limit x %I",
	"run --name / %I", "run --name %C %I", "run --network nosuch --rm %I", "run --restart foo %I", "run --restart on-failure:x %I", "run --rm --restart always %I",
	"run -e =x %I", "run --env-file /nosuch %I", "run --cidfile /dev/null %I", "run --pull foo %I", "run --user nosuch --rm %I true", "run --cap-add NOSUCH %I", "run --security-opt foo %I",
	"run --security-opt seccomp=/nosuch %I", "run --ulimit foo %I", "run --ulimit foo=1:2 %I", "run --ulimit nofile=2:1 %I", "run --sysctl foo %I", "run --sysctl foo.bar=1 --rm %I", "run --ipc foo %I", "run --pid foo %I", "run --uts foo %I",
	"run --stop-signal FOO %I", "run --add-host foo %I", "run --add-host a:b %I", "run --dns foo %I", "run --link nosuch %I", "run --mac-address foo %I", "run --hostname a_b_ %I", "run --platform a/b/c/d %I", "run --log-driver nosuch %I",
	"run --log-opt foo=bar %I", "run --shm-size x %I", "run --oom-score-adj 5000 %I", "run --workdir rel %I", "run --gpus x %I", "run -a foo %I", "run -d -a stdout %I", "run UPPER", "run a:b:c", "run --rm %I nosuch", "run --rm %I /etc",
	"kill -s FOO %C", "kill -s 99 %C", "rename %C %C", "rename %C /", "rm %C", "unpause %C", "logs --tail x %C", "logs --since x %C", "update -m 1k %C", "update --cpus 9999 %C", "update --restart foo %C", "tag %I UPPER", "exec -e =x %C true", "exec -u nosuch %C true", "exec -w /nosuch %C true", "exec %C nosuch",
	"commit", "commit a b c", "commit nosuch", "commit %C UPPER", "commit %C a:b:c", "commit -c RUN_x %C", "commit -c FOO %C", "commit -c EXPOSE_x %C", "commit -c HEALTHCHECK_x %C", "commit --nosuch %C", "commit -p=x %C",
	"export", "export a b", "export nosuch", "export -o /nosuch/x %C", "export -o / %C", "export -o /dev/null %C", "save", "save nosuch", "save %I nosuch", "save UPPER", "save a:b:c", "save -o /nosuch/x %I", "save -o / %I", "save -o /dev/null %I",
	"save --platform a/b/c/d %I", "import", "import /nosuch", "import - UPPER", "import - a:b:c", "import -c RUN_x -", "import -c FOO -", "import --nosuch -", "load -i /nosuch", "top %C -nosuch",
	"ps -f foo", "ps -f foo=bar", "ps -f status=bar", "ps -f health=bar", "images -f foo=bar", "images -f dangling=x", "images -f before=nosuch", "network ls -f foo=bar", "network ls -f driver", "events -f foo=bar --until 0s", "events --since x", "container prune -f --filter foo=bar",
	// templates
	"ps --format {{.Foo}}", "ps --format {{.ID", "ps -q --format {{.Foo}}", "ps --format table_{{.Foo}}", "images --format {{.Foo}}", "images --format {{.ID", "history --format {{.Foo}} %I", "stats --no-stream --format {{.Foo}}", "network ls --format {{.Foo}}",
	"context ls --format {{.Foo}}", "version --format {{.Foo}}", "version --format {{.ID", "info --format {{.Foo}}", "info --format {{.ID", "system df --format {{.Foo}}", "system df -v --format {{.Foo}}", "system df -v --format {{.ID",
	"events --until 0s --format {{.Foo}}", "events --until 0s --format {{.ID", "inspect -f {{.Foo}} %C", "inspect -f {{.ID %C", "image inspect -f {{.Foo}} %I", "network inspect -f {{.Foo}} bridge",
}

// TestBadInputIsRefusedAsDockerDoes runs both command lines on one engine.
func TestBadInputIsRefusedAsDockerDoes(t *testing.T) {
	docker, tare := dockerCLI(t), filepath.Join(programs(t), "tare")
	e := startTared(t)
	e.docker = docker
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "badinput-1", "busybox", "sleep", "1000")
	t.Cleanup(func() { e.removeOf("badinput") })
	names := strings.NewReplacer("%C", "badinput-1", "%I", "busybox", "_", " ")
	for _, line := range badLines {
		args := strings.Fields(line)
		for i := range args {
			args[i] = names.Replace(args[i])
		}
		t.Run(line, func(t *testing.T) {
			want, got := e.refusal(t, docker, args), e.refusal(t, tare, args)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-docker +tare:\n%s", diff)
			}
		})
	}
	if left := strings.Fields(e.output(t, "ps", "-aq")); len(left) != 1 {
		// What docker itself leaves: containers that were made but could not start.
		e.output(t, append([]string{"rm", "-f"}, left...)...)
	}
}

// refusal is what a command line said, without what may differ: its own name, and
// the names of types that templates complain of.
type refusal struct {
	Out, Err string
	Code     int
}

var (
	programWord = regexp.MustCompile(`\b[Dd]ocker\b`)
	typeName    = regexp.MustCompile(`in type \S+`)
	templateID  = regexp.MustCompile(`template: \w*:(\d+:)`)
	templateRef = regexp.MustCompile(`executing "\w*"`)
	longID      = regexp.MustCompile(`[0-9a-f]{64}`)
	testHome    = regexp.MustCompile(`/\S*/contexts/`)
)

func (e *engine) refusal(t *testing.T, program string, args []string) refusal {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.socket, "DOCKER_CONFIG="+t.TempDir())
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	plain := func(b bytes.Buffer) string {
		s := strings.TrimSpace(b.String())
		s = programWord.ReplaceAllString(s, "tare")
		s = typeName.ReplaceAllString(s, "in type T")
		s = templateID.ReplaceAllString(s, "template: $1")
		s = templateRef.ReplaceAllString(s, "executing")
		s = strings.ReplaceAll(s, "\nSRun '", "\nRun '") // a slip of docker's
		s = testHome.ReplaceAllString(s, "/contexts/")
		return longID.ReplaceAllString(s, "ID")
	}
	return refusal{plain(out), plain(errOut), cmd.ProcessState.ExitCode()}
}
