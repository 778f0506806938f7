//go:build root && failpoint

package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// process is one process of the host.
type process struct {
	pid, ppid      int
	args, ppidName string
	state          byte
}

// processes lists all processes that are not dead.
func processes() []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	names := map[int]string{}
	var list []process
	for _, d := range dirs {
		stat, err := os.ReadFile(d + "/stat")
		if err != nil {
			continue
		}
		s := string(stat)
		open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
		f := strings.Fields(s[end+1:])
		p := process{state: f[0][0]}
		p.pid, _ = strconv.Atoi(filepath.Base(d))
		p.ppid, _ = strconv.Atoi(f[1])
		names[p.pid] = s[open+1 : end]
		args, _ := os.ReadFile(d + "/cmdline")
		p.args = strings.ReplaceAll(string(args), "\x00", " ")
		if p.state != 'Z' {
			list = append(list, p)
		}
	}
	for i := range list {
		list[i].ppidName = names[list[i].ppid]
	}
	return list
}

// engineID is the short id of the box's engine.
func (b *box) engineID() string {
	raw, _ := os.ReadFile(b.path("data/engine.json"))
	_, id, _ := strings.Cut(string(raw), `"ID":"`)
	return id[:min(8, len(id))]
}

// groups lists the control groups of the engine, with the processes in them.
func (b *box) groups() map[string]string {
	groups := map[string]string{}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/tare-" + b.engineID())
	for _, top := range append(dirs, "/sys/fs/cgroup/tare-"+b.engineID()) {
		filepath.WalkDir(top, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() && len(filepath.Base(p)) == 64 {
				procs, _ := os.ReadFile(p + "/cgroup.procs")
				groups[p] = strings.TrimSpace(string(procs))
			}
			return nil
		})
	}
	return groups
}

// ours lists the processes that belong to the box: the engine, the keeper with
// its nurseries, and what is in the engine's control groups.
func (b *box) ours() []process {
	inGroup := map[int]bool{}
	for _, pids := range b.groups() {
		for _, f := range strings.Fields(pids) {
			pid, _ := strconv.Atoi(f)
			inGroup[pid] = true
		}
	}
	var keepers []int
	all := processes()
	for _, p := range all {
		if strings.Contains(p.args, b.dir) {
			keepers = append(keepers, p.pid)
		}
	}
	var list []process
	for _, p := range all {
		if p.pid != os.Getpid() && (inGroup[p.pid] || strings.Contains(p.args, b.dir+"/run") || slices.Contains(keepers, p.ppid) && p.ppid != os.Getpid() && strings.Contains(p.args, "tare")) {
			list = append(list, p)
		}
	}
	return list
}

// leftovers lists what is there although no container is: promise 2 of "what
// was not acknowledged leaves nothing". containers are the IDs that may have
// something.
func (b *box) leftovers(containers ...string) []string {
	var left []string
	belongs := func(s string) bool {
		for _, id := range containers {
			if strings.Contains(s, id) || strings.Contains(s, id[:12]) {
				return true
			}
		}
		return false
	}
	add := func(kind, what string) {
		if !belongs(what) {
			left = append(left, kind+" "+what)
		}
	}
	for g := range b.groups() {
		add("cgroup", g)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, b.dir+"/") {
			add("mount", line)
		}
	}
	links, _ := exec.Command("ip", "-o", "link").Output()
	for line := range strings.Lines(string(links)) {
		if strings.Contains(line, "alias tare:"+b.engineID()+":") || strings.Contains(line, ": tv") {
			add("link", line)
		}
	}
	for _, dir := range []string{"data/containers", "data/trash", "data/layers/overlay/staging", "data/spool", "run/containers", "run/live", "run/exits"} {
		entries, _ := os.ReadDir(b.path(dir))
		for _, e := range entries {
			add("file", dir+"/"+e.Name())
		}
	}
	for _, p := range b.ours() {
		if strings.Contains(p.args, "tare-keeper") || strings.Contains(p.args, "tared") || strings.Contains(p.args, "tare-nursery") {
			continue
		}
		group, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.pid))
		add("process", fmt.Sprintf("%d %s %s", p.pid, p.args, group))
	}
	return left
}

// settled waits until nothing is left over, and says what is if that does not
// come about: links and trash go in the background.
func (b *box) settled(containers ...string) {
	b.t.Helper()
	var left []string
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left = b.leftovers(containers...); len(left) == 0 {
			return
		}
	}
	b.t.Errorf("left over:\n  %s\n%s", strings.Join(left, "\n  "), b.tail())
}
