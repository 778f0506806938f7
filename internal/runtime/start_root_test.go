//go:build root

package runtime

import (
	"testing"
)

func TestDefaultContainer(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	r := l.run(dir, sh(t, `echo pid $$; hostname; id; pwd; cat /proc/self/status | grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups)'; ls /proc/self/fd; ulimit -n; umask; cat /proc/self/oom_score_adj; cat /proc/mounts; cat /proc/self/cgroup; ls -l /dev /sys/fs/cgroup; exit 7`))
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Log(r.status.ExitStatus(), r.out)
}
