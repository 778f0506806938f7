// Package idmap makes user namespaces that nobody is in, for mounts that map
// ids by them.
package idmap

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

// Range maps Size ids, from Inside on, to Outside and following.
type Range struct{ Inside, Outside, Size int }

// Open returns a user namespace with the maps. It lives as long as the
// descriptor and the mounts made with it.
func Open(uids, gids []Range) (*os.File, error) {
	// The child stops before the first instruction of its program; the tracer
	// is a thread, which must stay the same until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"idmap"}, &os.ProcAttr{Env: []string{}, Sys: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: sysMaps(uids), GidMappings: sysMaps(gids), GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	f, err := os.Open("/proc/" + strconv.Itoa(p.Pid) + "/ns/user")
	if errKill := p.Kill(); err == nil && errKill != nil {
		f.Close()
		err = errKill
	}
	_, errWait := p.Wait()
	if err == nil && errWait != nil {
		f.Close()
		err = errWait
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func sysMaps(list []Range) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(list))
	for i, r := range list {
		out[i] = syscall.SysProcIDMap{ContainerID: r.Inside, HostID: r.Outside, Size: r.Size}
	}
	return out
}
