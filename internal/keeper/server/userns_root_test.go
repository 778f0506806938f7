//go:build root

package server

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/idmap"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

func userNamespace(t *testing.T) *os.File {
	t.Helper()
	maps := []idmap.Range{{Outside: 100000, Size: 1000}}
	ns, err := idmap.Open(maps, maps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// TestBornInAUserNamespace: what is new of the child belongs to the namespace, and
// the nursery that was made for it is gone when the start is answered.
func TestBornInAUserNamespace(t *testing.T) {
	r := newEngineRig(t)
	ns := userNamespace(t)
	st, err := ns.Stat()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("user:[%d]", st.Sys().(*syscall.Stat_t).Ino)
	p := spawn.NewPlan()
	p.ResetSignals()
	p.Do("user root", spawn.SysSetresuid, spawn.Nil, spawn.Nil, spawn.Nil)
	p.Do("mount", spawn.SysMount, p.Str("none"), p.Str("/tmp"), p.Str("tmpfs"), spawn.Nil, spawn.Nil)
	p.Stdio()
	p.CloseOnExec()
	p.Exec("/bin/sh", "", []string{"sh", "-c", "test $(readlink /proc/self/ns/user) = '" + want + "' && exit 3"}, []string{"PATH=/bin:/usr/bin"})
	s := keeper.Start{ID: "u1", UserNS: ns, Flags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, CgroupFD: -1, Plan: p.Image()}
	r.run(s).Files.Close()
	if x := r.exit("u1"); x.Status.ExitStatus() != 3 {
		t.Errorf("status %v\n%s", x.Status, r.log())
	}
	for i := range 20 { // more than there could be arenas, if one stayed
		s := container(fmt.Sprint("more", i), "exit 0")
		s.UserNS = ns
		r.run(s).Files.Close()
	}
}

func TestAUserNamespaceThatCannotBeJoined(t *testing.T) {
	r := newEngineRig(t)
	own, err := os.Open("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	s := container("own", "exit 0")
	s.UserNS = own
	if _, err := r.Start(t.Context(), s); err == nil {
		t.Error("started")
	}
	s = container("parked", "exit 0")
	s.UserNS = userNamespace(t)
	if _, err := r.Park(t.Context(), s); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("park: %v", err)
	}
	s.ID = "runtime"
	s.External = true
	if _, err := r.Start(t.Context(), s); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("a runtime: %v", err)
	}
	r.run(container("after", "exit 0")).Files.Close() // it goes on
}
