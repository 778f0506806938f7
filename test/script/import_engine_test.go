//go:build root

package script

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImportEngine moves everything of Debian's dockerd into an engine of ours: what
// users have there works as it did, and nothing there is changed.
func TestImportEngine(t *testing.T) {
	old := startDockerd(t)
	old.docker = dockerCLI(t)
	old.load(t, "busybox.tar")
	sh := func(e *engine, script string) string {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Env = append(cmd.Environ(), "DOCKER_HOST=unix://"+e.socket, "DOCKER_CONFIG="+t.TempDir(), "D="+e.docker)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
		return string(out)
	}
	sh(old, `$D volume create --label a=b moved-data
		$D volume create -o type=tmpfs -o device=tmpfs -o o=size=1m moved-tmpfs
		$D network create --subnet 10.96.5.0/24 --gateway 10.96.5.9 --label n=1 moved-net
		$D run -d --name moved-web --restart unless-stopped --network moved-net --ip 10.96.5.77 --network-alias www -v moved-data:/data -v /anon -e A=1 --hostname webhost busybox sh -c \
			'[ -e /home/only ] && exec sleep 1000; echo hello; echo file > /data/f; chown 123:45 /data/f; echo anon > /anon/g; echo changed > /etc/new; rm -f /bin/wget; rm -rf /home; mkdir /home; echo h > /home/only; exec sleep 1000'
		$D create --name moved-joined --volumes-from moved-web --network container:moved-web busybox cat /data/f
		$D create --name moved-host --privileged --network host busybox true
		$D run --name moved-done busybox sh -c 'echo bye; exit 3' || [ $? = 3 ]
		for i in $(seq 100); do $D exec moved-web test -e /home/only && break; sleep .1; done`)
	data := strings.TrimSpace(sh(old, `$D info -f '{{.DockerRootDir}}'`))
	new := startTared(t)
	new.docker = programs(t) + "/tare"
	if out, err := exec.Command(new.docker, "-H", "unix://"+new.socket, "system", "import-engine", data).CombinedOutput(); err == nil || !strings.Contains(string(out), "Docker is running on") {
		t.Fatalf("Docker runs: %v: %s", err, out)
	}
	sh(old, `$D stop -t 0 moved-web; kill $(cat `+data+`/../pid); for i in $(seq 300); do [ -e `+data+`/../pid ] || exit 0; sleep .1; done; exit 1`)
	tree := `cd ` + data + ` && find . -printf '%p %s %m %U %G %T@ %l\n' | sort | sha256sum`
	before := sh(new, tree)

	if out := sh(new, `$D system import-engine --dry-run `+data); !strings.Contains(out, "Would import container: moved-web") || sh(new, `$D ps -aq; $D volume ls -q`) != "" {
		t.Errorf("a dry run: %s", out)
	}
	sh(new, `$D system import-engine `+data)
	if out := sh(new, `$D system import-engine `+data); strings.Contains(out, "Imported") {
		t.Errorf("a second time: %s", out)
	}
	if after := sh(new, tree); after != before {
		t.Error("the data root was changed")
	}
	for script, want := range map[string]string{
		`$D logs moved-web; $D logs moved-done`:                                                                                "hello\nbye\n",
		`$D inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.Config.Image}}' moved-done`:                                   "exited 3 busybox\n",
		`$D inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.Config.Hostname}}' moved-web`:                                    "unless-stopped webhost\n",
		`$D volume inspect -f '{{.Labels.a}}' moved-data; $D volume inspect -f '{{.Options.o}}' moved-tmpfs`:                   "b\nsize=1m\n",
		`$D network inspect -f '{{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}} {{.Labels.n}}' moved-net`: "10.96.5.0/24 10.96.5.9 1\n",
		`$D diff moved-web | grep -e wget -e only -e new`:                                                                      "D /bin/wget\nA /etc/new\nA /home/only\n",
	} {
		if got := sh(new, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	sh(new, `$D start moved-web`)
	got := sh(new, `$D exec moved-web sh -c 'cat /data/f /anon/g /etc/new; stat -c %u:%g /data/f; hostname; [ -e /bin/wget ] || echo gone; ls /home; ip addr show eth0' | grep -o -e '^[a-z0-9:]*$' -e '10.96.5.77'`)
	if want := "file\nanon\nchanged\n123:45\nwebhost\ngone\nonly\n10.96.5.77\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := sh(new, `$D start -a moved-joined; $D start -a moved-host`); got != "file\n" {
		t.Errorf("those that need others: %q", got)
	}
	sh(new, `$D rm -f -v moved-web moved-joined moved-host moved-done; $D volume rm moved-data moved-tmpfs; $D network rm moved-net`)
	if left := sh(new, `$D volume ls -q`); left != "" { // the anonymous one went with its container
		t.Errorf("left: %s", left)
	}
}
