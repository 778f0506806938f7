package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

var updateFlags = []flag{
	{"resources", "r", true, "path to the file containing the resources to update or '-' to read from the standard input"},
	{"blkio-weight", "", true, "Specifies per cgroup weight, range is from 10 to 1000"},
	{"cpu-period", "", true, "CPU CFS period to be used for hardcapping (in usecs). 0 to use system default"},
	{"cpu-quota", "", true, "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period"},
	{"cpu-burst", "", true, "CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst a given period"},
	{"cpu-share", "", true, "CPU shares (relative weight vs. other containers)"},
	{"cpu-rt-period", "", true, "CPU realtime period to be used for hardcapping (in usecs). 0 to use system default"},
	{"cpu-rt-runtime", "", true, "CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period"},
	{"cpuset-cpus", "", true, "CPU(s) to use"},
	{"cpuset-mems", "", true, "Memory node(s) to use"},
	{"memory", "", true, "Memory limit (in bytes)"},
	{"cpu-idle", "", true, "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"},
	{"memory-reservation", "", true, "Memory reservation or soft_limit (in bytes)"},
	{"memory-swap", "", true, "Total memory usage (memory + swap); set '-1' to enable unlimited swap"},
	{"pids-limit", "", true, "Maximum number of pids allowed in the container"},
}

func runUpdate(a *app, f values, args []string) (int, error) {
	c, err := a.root.Lock(args[0])
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var r *specs.LinuxResources
	if name := f.text("resources", ""); name != "" {
		r, err = readResources(name)
	} else {
		r, err = flagResources(f)
	}
	if err != nil {
		return 0, err
	}
	return 0, c.Update(r)
}

func readResources(name string) (*specs.LinuxResources, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	r := &specs.LinuxResources{}
	return r, json.NewDecoder(in).Decode(r)
}

// flagResources are the limits that the flags give; what they do not name
// stays.
func flagResources(f values) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}}
	r.CPU.Cpus, r.CPU.Mems = f.text("cpuset-cpus", ""), f.text("cpuset-mems", "")
	for _, x := range []struct {
		name string
		to   **uint64
	}{{"cpu-period", &r.CPU.Period}, {"cpu-burst", &r.CPU.Burst}, {"cpu-share", &r.CPU.Shares}, {"cpu-rt-period", &r.CPU.RealtimePeriod}} {
		if s := f.text(x.name, ""); s != "" {
			n, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("invalid value for %s: %w", x.name, err)
			}
			*x.to = &n
		}
	}
	for _, x := range []struct {
		name string
		to   **int64
	}{{"cpu-quota", &r.CPU.Quota}, {"cpu-rt-runtime", &r.CPU.RealtimeRuntime}, {"cpu-idle", &r.CPU.Idle},
		{"memory", &r.Memory.Limit}, {"memory-reservation", &r.Memory.Reservation}, {"memory-swap", &r.Memory.Swap}} {
		if s := f.text(x.name, ""); s != "" {
			n, err := sizeOf(s)
			if err != nil {
				return nil, fmt.Errorf("invalid value for %s: %w", x.name, err)
			}
			*x.to = &n
		}
	}
	return r, otherResources(f, r)
}

func otherResources(f values, r *specs.LinuxResources) error {
	if s := f.text("blkio-weight", ""); s != "" {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return fmt.Errorf("invalid value for blkio-weight: %w", err)
		}
		w := uint16(n)
		r.BlockIO = &specs.LinuxBlockIO{Weight: &w}
	}
	if s := f.text("pids-limit", ""); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("invalid value for pids-limit: %w", err)
		}
		r.Pids = &specs.LinuxPids{Limit: &n}
	}
	return nil
}

// sizeOf reads a number, with a unit or without; -1 means no limit.
func sizeOf(s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	return units.RAMInBytes(s)
}
