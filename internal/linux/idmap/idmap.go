// Package idmap makes user namespaces that nobody is in, for mounts that map
// ids by them, and reads the maps of those that somebody is in.
package idmap

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Range maps Size ids, from Inside on, to Outside and following.
type Range struct{ Inside, Outside, Size int }

// Open returns a user namespace with the maps. It lives as long as the
// descriptor and the mounts made with it.
func Open(uids, gids []Range) (*os.File, error) {
	user, _, err := open(uids, gids, 0)
	return user, err
}

// OpenWithNet returns a user namespace with the maps, and a network namespace that
// belongs to it, with a loopback link that is down.
func OpenWithNet(uids, gids []Range) (user, net *os.File, err error) {
	return open(uids, gids, syscall.CLONE_NEWNET)
}

// open makes a user namespace, and what else the flags say: nil if that is not a
// network namespace.
func open(uids, gids []Range, flags uintptr) (user, net *os.File, err error) {
	// The child stops before the first instruction of its program; the tracer
	// is a thread, which must stay the same until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"idmap"}, &os.ProcAttr{Env: []string{}, Sys: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | flags, UidMappings: sysMaps(uids), GidMappings: sysMaps(gids), GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return nil, nil, fmt.Errorf("make user namespace: %w", err)
	}
	dir := "/proc/" + strconv.Itoa(p.Pid) + "/ns/"
	user, err = os.Open(dir + "user")
	if err == nil && flags != 0 {
		net, err = os.Open(dir + "net")
	}
	errKill := p.Kill()
	_, errWait := p.Wait()
	if err = errors.Join(err, errKill, errWait); err != nil {
		user.Close()
		net.Close()
		return nil, nil, err
	}
	return user, net, nil
}

// Of returns the maps of the process's user namespace; Outside are the ids of
// ours. A namespace without maps has none.
func Of(pid int) (uids, gids []Range, err error) {
	dir := "/proc/" + strconv.Itoa(pid)
	if uids, err = read(dir + "/uid_map"); err != nil {
		return nil, nil, err
	}
	gids, err = read(dir + "/gid_map")
	return uids, gids, err
}

func read(name string) ([]Range, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var out []Range
	for line := range strings.Lines(string(b)) {
		var r Range
		if _, err := fmt.Sscan(line, &r.Inside, &r.Outside, &r.Size); err != nil {
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		}
		if r.Outside == unmapped {
			return nil, fmt.Errorf("%s: the ids from %d on are none of ours", name, r.Inside)
		}
		out = append(out, r)
	}
	return out, nil
}

// unmapped is what the kernel shows for an id that our namespace does not have.
const unmapped = 1<<32 - 1

func sysMaps(list []Range) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(list))
	for i, r := range list {
		out[i] = syscall.SysProcIDMap{ContainerID: r.Inside, HostID: r.Outside, Size: r.Size}
	}
	return out
}
