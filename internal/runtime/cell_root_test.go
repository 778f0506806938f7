//go:build root

package runtime

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// parked is a cell with its child.
type parked struct {
	*Cell
	slab *spawn.Slab
	sock *os.File
	pid  int
}

// park makes a cell for containers like s.
func (l *lab) park(s *specs.Spec) *parked {
	l.t.Helper()
	cell, err := NewCell(Config{ID: "test", Spec: s, CgroupProcs: l.cgroups})
	if err != nil {
		l.t.Fatal(err)
	}
	defer cell.Close()
	p := &parked{Cell: cell, slab: l.region.Get()}
	if err := p.slab.LoadParked(cell.Image); err != nil {
		l.t.Fatal(err)
	}
	var theirs *os.File
	if p.sock, theirs, err = spawn.ParkSocket(); err != nil {
		l.t.Fatal(err)
	}
	rep, repw, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	p.pid, err = l.nursery.Start(p.slab, spawn.Options{Flags: cell.Flags, Cgroup: -1}, append([]*os.File{repw, theirs, theirs, theirs}, cell.FDs...))
	repw.Close()
	theirs.Close()
	if err != nil {
		l.t.Fatal(err)
	}
	if b, _ := io.ReadAll(rep); len(b) > 0 {
		r := p.slab.ReadReport(b)
		l.t.Fatalf("step %d %q: %v", r.Step, cell.Plan.StepName(r.Step), r.Errno)
	}
	rep.Close()
	l.t.Cleanup(func() { p.sock.Close() })
	return p
}

// wake sends the cell on as the container s.
func (l *lab) wake(p *parked, s *specs.Spec, root *os.File) result {
	l.t.Helper()
	start, err := NewWake(Config{ID: "test", Spec: s, Root: root, CgroupProcs: l.cgroups}, p.Cell)
	if err != nil {
		return result{err: err}
	}
	defer start.Close()
	addr, err := p.slab.LoadSecond(start.Image)
	if err != nil {
		l.t.Fatal(err)
	}
	var r running
	fds, _ := l.streams(&r, false)
	defer r.out.Close()
	rep, repw, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	defer rep.Close()
	begin := time.Now()
	err = spawn.Wake(p.sock, addr, append(append([]*os.File{repw}, fds...), start.FDs...))
	for _, f := range append(fds, repw) {
		f.Close()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	report, _ := io.ReadAll(rep)
	l.t.Logf("wake to exec known: %v", time.Since(begin))
	out, _ := io.ReadAll(r.out)
	ws := reap(p.pid)
	p.slab.Put()
	if len(report) > 0 {
		x := p.slab.ReadReport(report)
		return result{err: start.Explain(&keeper.StepError{Errno: x.Errno, Step: x.Step, Second: x.Second}), status: ws}
	}
	return result{out: string(out), status: ws}
}

const probe = `echo $$ $(hostname) $(id -u) $(pwd); grep -E '^(Cap|Seccomp:)' /proc/self/status; echo $(ls /proc/self/fd); cat /proc/self/mounts | while read a b c d e; do echo $b $c $d; done | grep -v '^/ '; cat /proc/self/cgroup; ls -l /dev | wc -l; ulimit -n; umask; cat /etc/file; exit 9`

func TestCellBecomesTheSameContainer(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	host := t.TempDir() + "/file"
	if err := os.WriteFile(host, []byte("bound\n"), 0644); err != nil {
		t.Fatal(err)
	}
	s := sh(t, probe)
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/file", Source: host, Type: "bind", Options: []string{"rbind", "rprivate"}})
	s.Process.User.UID = 0
	cold := l.run(dir, s)
	if cold.err != nil || cold.status.ExitStatus() != 9 {
		t.Fatal(cold.err, cold.status)
	}
	p := l.park(dockerSpec(t, "anything"))
	warm := l.wake(p, s, cloneRoot(t, dir))
	if warm.err != nil || warm.status.ExitStatus() != 9 {
		t.Fatal(warm.err, warm.status)
	}
	// The order of the mounts may differ.
	if lines(warm.out) != lines(cold.out) {
		t.Errorf("from the cell:\n%s\ncold:\n%s", warm.out, cold.out)
	}
	if !strings.Contains(warm.out, "1 box 0 /\n") || !strings.Contains(warm.out, "bound\n") {
		t.Error(warm.out)
	}
}

func lines(s string) string {
	l := strings.Split(s, "\n")
	slices.Sort(l)
	return strings.Join(l, "\n")
}

func TestCellTellsWhatIsWrong(t *testing.T) {
	l := newLab(t)
	got := l.wake(l.park(dockerSpec(t, "x")), dockerSpec(t, "nosuch"), cloneRoot(t, rootDir(t)))
	if got.err == nil || !strings.HasSuffix(got.err.Error(), `exec: "nosuch": executable file not found in $PATH`) || codeOf(got.err) != 127 {
		t.Error(got.err)
	}
}

func TestCellOfAnotherKindDoesNotFit(t *testing.T) {
	l := newLab(t)
	root := cloneRoot(t, rootDir(t))
	p := l.park(dockerSpec(t, "x"))
	for name, change := range map[string]func(*specs.Spec){
		"host name":  func(s *specs.Spec) { s.Hostname = "other" },
		"capability": func(s *specs.Spec) { s.Process.Capabilities.Bounding = dockerCaps[1:] },
		"shm size":   func(s *specs.Spec) { s.Mounts[6].Options = []string{"size=1m"} },
		"mask":       func(s *specs.Spec) { s.Linux.MaskedPaths = nil },
		"device": func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
		},
		"host network": func(s *specs.Spec) { s.Linux.Namespaces = slices.Delete(slices.Clone(s.Linux.Namespaces), 1, 2) },
		"joined ipc":   func(s *specs.Spec) { s.Linux.Namespaces[4].Path = "/proc/self/ns/ipc" },
		"sysctl":       func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} },
		"bind in dev": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev/x", Source: "/dev/null", Type: "bind"})
		},
		"bind in sys": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs", Source: "/tmp", Type: "bind"})
		},
	} {
		s := dockerSpec(t, "true")
		change(s)
		if got := l.wake(p, s, root); !errors.Is(got.err, ErrNoFit) {
			t.Errorf("%s: %v", name, got.err)
		}
	}
	p.sock.Close()
	if ws := reap(p.pid); ws.ExitStatus() != 0 {
		t.Errorf("an evicted cell ends with %v", ws)
	}
	p.slab.Put()
}
