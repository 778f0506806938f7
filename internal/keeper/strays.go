package keeper

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tare-engine/tare/internal/linux/process"
)

// A keeper that dies between the clones of an exec leaves a child in a
// container's PID namespace that nobody has a record of. Where the engine is
// the subreaper it is the engine's child, and the end of the container's first
// process waits until it is reaped: without this the container would never end.

const strayInterval = 250 * time.Millisecond

// reapStrays takes ended children of this process that live in a PID namespace
// below ours and are none of the orphans whose status somebody will ask for.
// It is started when the list shows orphans and ends with the connection.
func (c *Conn) reapStrays() {
	tick := time.NewTicker(strayInterval)
	defer tick.Stop()
	for {
		select {
		case <-c.gone:
			return
		case <-tick.C:
		}
		for _, pid := range endedNested() {
			c.mu.Lock()
			known := c.orphans[pid]
			c.mu.Unlock()
			if !known {
				_, _ = process.Reap(pid)
			}
		}
	}
}

// watchStrays notes an orphan and starts reapStrays with the first one.
func (c *Conn) watchStrays(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.orphans) == 0 {
		c.orphans = map[int]bool{}
		go c.reapStrays()
	}
	c.orphans[pid] = true
}

// endedNested returns the zombies among this process's children that have a
// pid in more than one namespace. What the engine itself starts has not.
func endedNested() (pids []int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue // the thread ended
		}
		for f := range bytes.FieldsSeq(b) {
			pid, err := strconv.Atoi(string(f))
			if err == nil && nestedZombie(pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func nestedZombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	zombie, nested := false, false
	for l := range bytes.Lines(b) {
		f := bytes.Fields(l)
		switch {
		case len(f) > 1 && string(f[0]) == "State:":
			zombie = string(f[1]) == "Z"
		case len(f) > 2 && string(f[0]) == "NSpid:":
			nested = true
		}
	}
	return zombie && nested
}
