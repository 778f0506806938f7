package process

import "golang.org/x/sys/unix"

// HardLimit is how far this process may raise a limit (RLIMIT_…) without
// rights; 0 if it cannot be found out.
func HardLimit(resource int) uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(resource, &l) != nil {
		return 0
	}
	return l.Max
}

// RaiseHardLimit makes a process's hard limit at least max. It needs
// CAP_SYS_RESOURCE where it has to change something.
func RaiseHardLimit(pid, resource int, max uint64) error {
	var l unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &l); err != nil || l.Max >= max {
		return err
	}
	l.Max = max
	return unix.Prlimit(pid, resource, &l, nil)
}
