package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	kernel "github.com/tare-engine/tare/internal/linux/process"
)

// A process that has the pid of a donor's is not the donor's: what was opened by
// that pid is nobody's to join.
func TestDonorWhosePidIsAnothers(t *testing.T) {
	ticks, err := kernel.StartTicks(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cause")
	theirs := &View{Record: &Record{ID: "donor"}, Pid: os.Getpid(), Ticks: ticks}
	l := &launch{donors: []donor{{"PID", theirs}}}
	if err := l.there(nil); err != nil {
		t.Error(err)
	}
	if err := l.there(cause); err != cause {
		t.Error(err)
	}
	reused := *theirs
	reused.Ticks--
	l.donors = append(l.donors, donor{"network", &reused})
	for _, err := range []error{nil, cause} {
		err = l.there(err)
		if !errdefs.Is(err, errdefs.Conflict) || err.Error() != "cannot join network namespace of a non running container: donor" {
			t.Error(err)
		}
	}
}

// Another runtime looks a donor's namespaces up when the donor's pid may be
// another process's: they are named by what was opened.
func TestNamespacesForAnotherRuntimeAreHeld(t *testing.T) {
	donor := exec.Command("sleep", "1000")
	if err := donor.Start(); err != nil {
		t.Fatal(err)
	}
	l := &launch{spec: &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}}}}
	defer l.closeNamespaces()
	for _, typ := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace} {
		l.spec.Linux.Namespaces = append(l.spec.Linux.Namespaces, specs.LinuxNamespace{Type: typ, Path: fmt.Sprintf("/proc/%d/ns/%s", donor.Process.Pid, typ)})
	}
	err := l.holdJoined()
	_ = donor.Process.Kill()
	_ = donor.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(l.spec.Linux.Namespaces); n != 3 {
		t.Errorf("%d namespaces", n)
	}
	for _, n := range l.spec.Linux.Namespaces {
		if n.Type == specs.MountNamespace {
			if n.Path != "" {
				t.Errorf("%+v", n)
			}
			continue
		}
		named, err1 := os.Stat(n.Path)
		ours, err2 := os.Stat("/proc/self/ns/" + string(n.Type))
		if err := errors.Join(err1, err2); err != nil {
			t.Error(err)
		} else if !os.SameFile(named, ours) {
			t.Errorf("%s is not the donor's", n.Path)
		}
	}
}
