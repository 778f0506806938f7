//go:build root

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// notifier is this program when it sends messages to its NOTIFY_SOCKET.
const notifier = "notify"

func notify(messages []string) int {
	conn, err := net.Dial("unixgram", os.Getenv(notifySocket))
	for _, m := range messages {
		if err == nil {
			_, err = conn.Write([]byte(strings.ReplaceAll(m, `\n`, "\n")))
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// listener is a service manager: what it is told comes out of the channel.
func (l *lab) listener() <-chan string {
	l.t.Helper()
	addr := &net.UnixAddr{Name: l.dir + "/manager", Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	told := make(chan string, 100)
	go func() {
		for {
			var b [4096]byte
			n, err := conn.Read(b[:])
			if err != nil {
				return
			}
			if m := string(b[:n]); m != "BARRIER=1" {
				told <- m
			}
		}
	}()
	l.t.(*testing.T).Setenv(notifySocket, addr.Name)
	exe, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(l.rootfs+"/bin/say", exe, 0o755)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return told
}

// tells expects one message.
func (l *lab) tells(told <-chan string, want string) {
	l.t.Helper()
	select {
	case m := <-told:
		if m != want {
			l.t.Errorf("told %q, want %q", m, want)
		}
	case <-time.After(10 * time.Second):
		l.t.Errorf("nothing told, want %q", want)
	}
}

// silent expects that there was none.
func (l *lab) silent(told <-chan string) {
	l.t.Helper()
	select {
	case m := <-told:
		l.t.Errorf("told %q", m)
	default:
	}
}

func TestReadinessIsPassedOn(t *testing.T) {
	l := newLab(t)
	told := l.listener()
	user := func(s *specs.Spec) {
		s.Process.User = specs.User{UID: 1000, GID: 1000}
		s.Process.Env = append(s.Process.Env, "NOTIFY_SOCKET=/of/the/spec")
		s.Root.Readonly = true
	}
	// Only what says that it is ready is passed on, and only that.
	const script = `say notify STATUS=x 'XREADY=1' 'A=1\nREADY=1\nFDSTORE=1' && exec sleep 1000`
	if err := l.create("c", l.bundle("c", user, "sh", "-c", script)); err != nil {
		t.Fatal(err)
	}
	l.silent(told)
	l.must("start", "c")
	pid := l.state("c").Pid
	l.tells(told, fmt.Sprintf("READY=1\nMAINPID=%d", pid))
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || strings.Count(string(env), "NOTIFY_SOCKET=") != 1 || !strings.Contains(string(env), "NOTIFY_SOCKET=/run/notify/notify.sock\x00") {
		t.Errorf("%q %v", env, err)
	}
	if out := l.must("exec", "c", "sh", "-c", "echo $NOTIFY_SOCKET"); out != "/of/the/spec\n" {
		t.Errorf("an exec has it: %q", out)
	}
	l.fails("cannot start an already running container", "start", "c")
	l.silent(told)
	l.must("delete", "--force", "c")
	l.gone("c")

	// In the foreground we are the service's process; it may end at once.
	cmd := l.command("run", "--bundle", l.bundle("f", nil, "say", "notify", "READY=1"), "f")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l.tells(told, fmt.Sprintf("READY=1\nMAINPID=%d", cmd.Process.Pid))
	l.gone("f")

	cmd = l.command("run", "--detach", "--bundle", l.bundle("d", nil, "sh", "-c", "touch /run/notify/new; say notify READY=1; exec sleep 1000"), "d")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	l.tells(told, fmt.Sprintf("READY=1\nMAINPID=%d", l.state("d").Pid))
	if _, err := os.Lstat(l.root + "/d/notify/new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the container writes beside its socket: %v", err)
	}
	l.silent(told)
}

func TestReadinessThatDoesNotCome(t *testing.T) {
	l := newLab(t)
	told := l.listener()
	if err := l.create("ends", l.bundle("ends", nil, "say", "notify", "READY=0", "STOPPING=1")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "ends")
	l.await("ends", "stopped")

	// One that waits for readiness keeps nobody from ending the container.
	if err := l.create("slow", l.bundle("slow", nil, "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	start := l.command("start", "slow")
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	l.await("slow", "running")
	l.must("delete", "--force", "slow")
	if err := start.Wait(); err != nil {
		t.Error(err)
	}
	l.silent(told)

	// Who cannot be told does not end what runs.
	if err := l.create("mute", l.bundle("mute", nil, "sh", "-c", "say notify READY=1; exec sleep 1000")); err != nil {
		t.Fatal(err)
	}
	t.Setenv(notifySocket, l.dir+"/nobody")
	if out := l.must("start", "mute"); !strings.Contains(out, "level=warning") || !strings.Contains(out, "NOTIFY_SOCKET: send to "+l.dir+"/nobody: no such file or directory") {
		t.Errorf("%q", out)
	}
	if s := l.state("mute"); s.Status != "running" {
		t.Errorf("%+v", s)
	}

	// A caller without a socket waits for nobody, whoever has created.
	t.Setenv(notifySocket, l.dir+"/manager")
	if err := l.create("later", l.bundle("later", nil, "sh", "-c", "say notify READY=1; echo $? >/tmp/said; exec sleep 1000")); err != nil {
		t.Fatal(err)
	}
	os.Unsetenv(notifySocket)
	l.must("start", "later")
	var said []byte
	for range 500 {
		if said, _ = os.ReadFile(l.rootfs + "/tmp/said"); len(said) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if string(said) != "1\n" {
		t.Errorf("somebody listened: %q", said)
	}
	l.silent(told)
}
