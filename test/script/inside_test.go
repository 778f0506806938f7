//go:build root

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// hostRootCopy is the host's root directory as a container may have it: what it
// writes goes to memory.
func hostRootCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "tare-inside-") // a lower directory must not hold the upper one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	mount := func(source, target, typ, data string) {
		t.Helper()
		if err := syscall.Mount(source, target, typ, 0, data); err != nil {
			t.Fatalf("mount %s: %v", target, err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(target, 0); err != nil {
				t.Errorf("unmount %s: %v", target, err)
			}
		})
	}
	mount("tmpfs", dir, "tmpfs", "mode=755")
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	mount("overlay", root, "overlay", "lowerdir=/,upperdir="+dir+"/upper,workdir="+dir+"/work")
	return root
}

// dockerInside starts Debian's engine and a container of it.
const dockerInside = `
dockerd --data-root /inner/data >/inner/log 2>&1 &
pid=$!
for i in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
docker load -q -i /images/busybox.tar &&
	docker run --rm -m 64m --pids-limit 50 busybox sh -c 'echo "inner $(cat /proc/1/comm)"; ip -o -4 addr show dev eth0 | grep -c inet' &&
	docker run -d --name goes-on busybox sleep 600 >/dev/null && docker exec goes-on echo "inner exec" && docker rm -f goes-on >/dev/null ||
	{ tail -n 20 /inner/log; exit 1; }
kill $pid
wait $pid
echo "dockerd ended: $?"
`

// TestDockerInside: Debian's docker.io runs in a privileged container and starts
// containers itself, with limits and a network. Nothing of them is left.
func TestDockerInside(t *testing.T) {
	if _, err := exec.LookPath("dockerd"); err != nil {
		t.Fatalf("%v: run make deps first", err)
	}
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	root := hostRootCopy(t)
	out := e.output(t, "run", "--rm", "--privileged", "--tmpfs", "/run", "--tmpfs", "/tmp", "--tmpfs", "/inner:exec", "-v", e.images+":/images:ro", "--rootfs", root, "bash", "-c", dockerInside)
	for _, want := range []string{"inner sh\n1\n", "inner exec\n", "dockerd ended: 0"} {
		if !strings.Contains(out+"\n", want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if left := e.output(t, "ps", "-aq"); left != "" {
		t.Errorf("left: %s", left)
	}
	groups, err := exec.Command("find", "/sys/fs/cgroup", "-path", "*/tare-*/docker", "-type", "d").Output()
	if err != nil || len(groups) > 0 {
		t.Errorf("groups left: %s, %v", groups, err)
	}
}
