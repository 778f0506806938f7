package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/oci"
)

// event is one line of "events"; the shapes are runc's.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

type statsData struct {
	CPU    cpuData    `json:"cpu"`
	Memory memoryData `json:"memory"`
	Pids   pidsData   `json:"pids"`
	Blkio  blkioData  `json:"blkio"`
}

type cpuData struct {
	Usage struct {
		Total  uint64   `json:"total,omitempty"`
		PerCPU []uint64 `json:"percpu,omitempty"`
		Kernel uint64   `json:"kernel"`
		User   uint64   `json:"user"`
	} `json:"usage"`
	Throttling struct {
		Periods          uint64 `json:"periods,omitempty"`
		ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
		ThrottledTime    uint64 `json:"throttledTime,omitempty"`
	} `json:"throttling"`
}

type memoryData struct {
	Cache uint64            `json:"cache,omitempty"`
	Usage memoryEntry       `json:"usage"`
	Raw   map[string]uint64 `json:"raw,omitempty"`
}

type memoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

type pidsData struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

type blkioData struct {
	Bytes []blkioEntry `json:"ioServiceBytesRecursive,omitempty"`
	Ops   []blkioEntry `json:"ioServicedRecursive,omitempty"`
}

type blkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// oomInterval is how often the kernel's count of kills is looked at.
const oomInterval = 500 * time.Millisecond

func runEvents(a *app, f values, args []string) (int, error) {
	interval, err := time.ParseDuration(f.text("interval", "5s"))
	if err != nil || interval <= 0 {
		return 0, errors.New("duration interval must be greater than 0")
	}
	c, err := a.root.Open(args[0])
	if err != nil {
		return 0, err
	}
	if status, err := c.Status(); err != nil {
		return 0, err
	} else if status == oci.Stopped {
		return 0, fmt.Errorf("container with id %s is not running", c.ID)
	}
	if f.has("stats") {
		return 0, printStats(c)
	}
	return 0, watch(c, interval)
}

// watch prints statistics in intervals, and kills for want of memory as they
// are found, until the container has ended.
func watch(c *oci.Container, interval time.Duration) error {
	kills, err := c.OOMKills()
	if err != nil {
		return err
	}
	next := time.Now().Add(interval)
	for {
		status, err := c.Status()
		if err != nil || status == oci.Stopped {
			return err
		}
		if now, err := c.OOMKills(); err == nil && now > kills {
			kills = now
			if err := print(event{Type: "oom", ID: c.ID}); err != nil {
				return err
			}
		}
		if !time.Now().Before(next) {
			next = next.Add(interval)
			if err := printStats(c); err != nil {
				return err
			}
		}
		time.Sleep(min(oomInterval, max(time.Until(next), time.Millisecond)))
	}
}

func printStats(c *oci.Container) error {
	s, err := c.Stats()
	if err != nil {
		return err
	}
	return print(event{Type: "stats", ID: c.ID, Data: dataOf(s)})
}

func print(e event) error { return json.NewEncoder(os.Stdout).Encode(e) }

func dataOf(s *cgroup.Stats) statsData {
	var d statsData
	d.CPU.Usage.Total, d.CPU.Usage.User, d.CPU.Usage.Kernel = uint64(s.CPU.Total), uint64(s.CPU.User), uint64(s.CPU.System)
	for _, t := range s.CPU.PerCPU {
		d.CPU.Usage.PerCPU = append(d.CPU.Usage.PerCPU, uint64(t))
	}
	d.CPU.Throttling.Periods, d.CPU.Throttling.ThrottledPeriods = s.CPU.Periods, s.CPU.ThrottledPeriods
	d.CPU.Throttling.ThrottledTime = uint64(s.CPU.Throttled)
	m := s.Memory
	d.Memory = memoryData{Cache: m.Detail["cache"], Usage: memoryEntry{m.Limit, m.Usage, m.Peak, m.Failures}, Raw: m.Detail}
	d.Pids.Current = s.Pids.Current
	if s.Pids.Limit != ^uint64(0) {
		d.Pids.Limit = s.Pids.Limit
	}
	for _, x := range s.IO {
		d.Blkio.Bytes = append(d.Blkio.Bytes, blkioEntry{x.Major, x.Minor, x.Op, x.Bytes})
		d.Blkio.Ops = append(d.Blkio.Ops, blkioEntry{x.Major, x.Minor, x.Op, x.Ops})
	}
	return d
}
