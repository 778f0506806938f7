//go:build root

package main

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestUserNamespace(t *testing.T) {
	l := newLab(t)
	ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	user := func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	}
	out := l.sh("u", user, "id -u; cat /proc/self/uid_map; echo x >/dev/null && echo null; ls -ld /proc/1/root/dev | grep -c dev")
	if f := strings.Fields(out); len(f) != 6 || f[0] != "0" || f[2] != "100000" || f[4] != "null" {
		t.Errorf("%q", out)
	}
	if err := l.create("u", l.bundle("u", user, "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "u")
	if out := l.must("exec", "u", "sh", "-c", "id -u; cat /proc/self/uid_map"); !strings.HasPrefix(out, "0\n") || !strings.Contains(out, "100000") {
		t.Errorf("%q", out)
	}
}

func TestMountsThatMapIDs(t *testing.T) {
	l := newLab(t)
	out := l.sh("i", func(s *specs.Spec) {
		ids := []specs.LinuxIDMapping{{HostID: 1234, Size: 1}}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: "/etc", Options: []string{"rbind", "ro"}, UIDMappings: ids, GIDMappings: ids})
	}, "stat -c %u:%g /m/passwd")
	if out != "1234:1234\n" {
		t.Errorf("%q", out)
	}
}

func TestTimeNamespaceAndScheduling(t *testing.T) {
	l := newLab(t)
	out := l.sh("t", func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1 << 30}}
		s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 3}
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}
	}, "cat /proc/uptime; uname -m; head -1 /proc/self/numa_maps; cat /proc/self/stat")
	f := strings.Split(out, "\n")
	if len(f) < 4 || !strings.HasPrefix(f[0], "107") || f[1] == "x86_64" || !strings.Contains(f[2], "bind:0") {
		t.Fatalf("%q", out)
	}
	stat := strings.Fields(f[3])
	if stat[18] != "3" || stat[40] != "3" { // nice; policy 3 is batch
		t.Errorf("%q", f[3])
	}
}

func TestContainersWithoutAMountNamespace(t *testing.T) {
	l := newLab(t)
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	none := func(s *specs.Spec) { s.Linux.Namespaces, s.Hostname = nil, "" }
	if err := l.create("n", l.bundle("n", none, "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "n")
	if out := l.must("exec", "n", "sh", "-c", "ls / && cat /proc/1/comm >/dev/null && echo x >/dev/null && echo fine"); !strings.Contains(out, "fine") || strings.Contains(out, "boot") {
		t.Errorf("%q", out)
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || len(after) != len(before) {
		t.Errorf("the host's mounts changed: %v", err)
	}
}

func TestNetworkDevicesMove(t *testing.T) {
	l := newLab(t)
	b := l.bundle("d", func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"outer": {Name: "inner"}} }, "ip", "addr", "show", "inner")
	script := "ip link add outer type veth peer name other && ip addr add 10.254.77.1/24 dev outer && exec " + program + " --root " + l.root + " run --bundle " + b + " d"
	out, err := exec.Command("unshare", "-n", "sh", "-c", script).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "inner") || !strings.Contains(string(out), "10.254.77.1/24") || !strings.Contains(string(out), ",UP") {
		t.Errorf("%v %q", err, out)
	}
}

func TestSeccompListenerGoesToItsAgent(t *testing.T) {
	l := newLab(t)
	agent, err := net.Listen("unix", l.dir+"/agent")
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	got := make(chan specs.ContainerProcessState, 1)
	go func() {
		defer close(got)
		c, err := agent.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, oob := make([]byte, 64<<10), make([]byte, 64)
		n, k, _, _, err := c.(*net.UnixConn).ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		var s specs.ContainerProcessState
		if json.Unmarshal(b[:n], &s) != nil {
			return
		}
		if m, err := syscall.ParseSocketControlMessage(oob[:k]); err == nil && len(m) == 1 {
			if fds, err := syscall.ParseUnixRights(&m[0]); err == nil {
				for _, fd := range fds { // nobody answers: the calls fail with ENOSYS
					syscall.Close(fd)
				}
				got <- s
			}
		}
	}()
	out := l.sh("s", func(s *specs.Spec) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, ListenerPath: l.dir + "/agent", ListenerMetadata: "hello",
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActNotify}},
		}
	}, "mkdir /tmp/x 2>&1 || busybox mkdir /tmp/x; true")
	s, ok := <-got
	if !ok || s.Metadata != "hello" || s.State.ID != "s" || s.Pid == 0 || len(s.Fds) != 1 || s.Fds[0] != specs.SeccompFdName {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(out, "Function not implemented") {
		t.Errorf("%q", out)
	}
}

func TestDescriptorsArePreserved(t *testing.T) {
	l := newLab(t)
	cmd := l.command("run", "--preserve-fds", "2", "--bundle", l.bundle("p", nil, "sh", "-c", "cat <&3; cat <&4; ls /proc/self/fd | wc -l"), "p")
	for _, text := range []string{"three\n", "four\n"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		w.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "three\nfour\n") {
		t.Errorf("%v %q", err, out)
	}
}

func TestRootOnARamdisk(t *testing.T) {
	l := newLab(t)
	b := l.bundle("r", nil, "sh", "-c", "ls /bin/busybox; cat /proc/1/comm; ls /boot")
	if out, err := l.run("run", "--no-pivot", "--bundle", b, "r"); code(err) != 1 || !strings.HasPrefix(out, "/bin/busybox\nsh\nls: /boot") {
		t.Errorf("%v %q", err, out)
	}
}

func TestTerminal(t *testing.T) {
	l := newLab(t)
	b := l.bundle("t", func(s *specs.Spec) { s.Process.Terminal = true }, "sh", "-c", "tty; sleep 1000")
	l.fails("cannot allocate tty if runc will detach without setting console socket", "create", "--bundle", b, "t")
	sock, err := net.Listen("unix", l.dir+"/console")
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	if out, err := l.run("create", "--console-socket", l.dir+"/console", "--pid-file", l.dir+"/pid", "--bundle", b, "t"); err != nil {
		t.Fatal(err, out)
	}
	c, err := sock.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	oob := make([]byte, 64)
	_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(make([]byte, 64), oob)
	if err != nil {
		t.Fatal(err)
	}
	m, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil || len(m) != 1 {
		t.Fatal(m, err)
	}
	fds, err := syscall.ParseUnixRights(&m[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	master := os.NewFile(uintptr(fds[0]), "master")
	defer master.Close()
	l.must("start", "t")
	buf := make([]byte, 64)
	k, err := master.Read(buf)
	if err != nil || strings.TrimSpace(string(buf[:k])) != "/dev/pts/0" {
		t.Errorf("%q %v", buf[:k], err)
	}
	if pid, err := os.ReadFile(l.dir + "/pid"); err != nil || string(pid) == "" {
		t.Errorf("%q %v", pid, err)
	}
}
