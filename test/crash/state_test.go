//go:build root && failpoint

package crash

import (
	"fmt"
	"io/fs"
	"maps"
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
	pid, ppid            int
	name, args, ppidName string
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
		p := process{name: s[open+1 : end]}
		p.pid, _ = strconv.Atoi(filepath.Base(d))
		p.ppid, _ = strconv.Atoi(f[1])
		names[p.pid] = p.name
		args, _ := os.ReadFile(d + "/cmdline")
		p.args = strings.ReplaceAll(string(args), "\x00", " ")
		if f[0] != "Z" {
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
	id := b.engineID()
	if id == "" {
		return groups
	}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/tare-" + id)
	for _, top := range append(dirs, "/sys/fs/cgroup/tare-"+id) {
		filepath.WalkDir(top, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				procs, _ := os.ReadFile(p + "/cgroup.procs")
				groups[p] = strings.TrimSpace(string(procs))
			}
			return nil
		})
	}
	return groups
}

// ours lists the processes that belong to the box: the engine, the keeper with
// its nurseries, and what is in the engine's control groups or networks.
func (b *box) ours() []process {
	mine := map[int]bool{}
	for _, pids := range b.groups() {
		for _, f := range strings.Fields(pids) {
			pid, _ := strconv.Atoi(f)
			mine[pid] = true
		}
	}
	var home os.FileInfo
	if fi, err := os.Stat("/run/netns/" + b.netns); err == nil {
		home = fi
	}
	var list []process
	for _, p := range processes() {
		fi, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", p.pid))
		if mine[p.pid] || err == nil && home != nil && os.SameFile(fi, home) {
			list = append(list, p)
		}
	}
	return list
}

// snapshot is all that a stopped engine without containers has on this host:
// after any crash, the next stop must find the same.
func (b *box) snapshot() []string {
	var all []string
	add := func(kind, what string) { all = append(all, kind+" "+what) }
	for g := range maps.Keys(b.groups()) {
		add("cgroup", g)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		at := strings.Fields(line)[4]
		if strings.Contains(line, b.dir+"/") && !slices.Contains(b.mounts, at) {
			add("mount", strings.TrimSpace(line))
		}
	}
	links, _ := exec.Command("ip", "-n", b.netns, "-o", "link").Output()
	for line := range strings.Lines(string(links)) {
		if f := strings.Fields(line); len(f) > 1 {
			add("link", f[1])
		}
	}
	rules, _ := exec.Command("nsenter", "--net=/run/netns/"+b.netns, "nft", "list", "ruleset").Output()
	for line := range strings.Lines(string(rules)) {
		add("nft", strings.TrimSpace(line))
	}
	for _, root := range []string{"data", "run"} {
		filepath.WalkDir(b.path(root), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !strings.HasPrefix(path, b.path("run/events")) { // the next engine tells them (decisions/0033)
				add("file", strings.TrimPrefix(path, b.dir))
			}
			return nil
		})
	}
	for _, p := range b.ours() {
		add("process", fmt.Sprintf("%s %s", p.name, p.args))
	}
	slices.Sort(all)
	return all
}

// settled waits until a stopped engine has what it had at base, and says what
// differs if that does not come about: the kernel takes links away in the
// background.
func (b *box) settled(base []string) {
	b.t.Helper()
	var more []string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if more = beyond(b.snapshot(), base); len(more) == 0 {
			return
		}
	}
	b.t.Errorf("left over:\n  %s\n%s", strings.Join(more, "\n  "), b.tail())
}

// beyond lists what is in a and not in base.
func beyond(a, base []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool {
		_, known := slices.BinarySearch(base, s)
		return known
	})
}
