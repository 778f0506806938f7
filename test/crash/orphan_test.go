//go:build root && failpoint

package crash

import (
	"strconv"
	"syscall"
	"testing"
)

// TestEndWithoutKeeperIsNoticed kills the keeper, and a container's process
// before another keeper is there: nobody waits for it, and still its end is
// told. The engine is stopped meanwhile, so that it cannot be faster.
func TestEndWithoutKeeperIsNoticed(t *testing.T) {
	for name, args := range map[string][]string{"kept": nil, "removes itself": {"--rm"}} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.up()
			b.down()
			base := b.snapshot() // without cells
			b.up()
			b.must(append(append([]string{"run", "-d", "--name", "box"}, args...), "--rootfs", b.rootfs(), "sleep", "1000")...)
			pid, err := strconv.Atoi(b.must("inspect", "--format", "{{.State.Pid}}", "box"))
			if err != nil || pid <= 1 {
				t.Fatal(pid, err)
			}
			engine := b.engine.Process
			if err := engine.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			b.killKeeper()
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := engine.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			want := "exited"
			if args != nil {
				want = ""
			}
			b.soon(func() bool { return b.state("box") == want })
			if got := b.state("box"); got != want {
				t.Fatalf("the container is %q, want %q\n%s", got, want, b.tail())
			}
			if want != "" {
				// 137 if the kernel told, else the code of an end that nobody saw.
				if code := b.must("inspect", "--format", "{{.State.ExitCode}}", "box"); code != "137" && code != "255" {
					t.Error("exit code", code)
				}
				b.must("start", "box") // it is whole again
				b.must("rm", "-f", "box")
			}
			b.down()
			b.settled(base)
		})
	}
}
