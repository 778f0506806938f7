//go:build root

package runtime

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// offsets in the plan's data change with every string before them.
var offsets = regexp.MustCompile(`&data\+\d+`)

var update = flag.Bool("update", false, "write testdata")

// TestPlanOfDefaultContainer shows what a start is, and what a change of this
// package changes in it. Steps that differ from host to host are left out.
func TestPlanOfDefaultContainer(t *testing.T) {
	s := dockerSpec(t, "nginx", "-g", "daemon off;")
	s.Process.Env = []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root"}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = []string{"/proc/keys", "/sys/firmware"}, []string{"/proc/sys"}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/hosts", Source: "/etc/passwd", Type: "bind", Options: []string{"rbind", "rprivate"}})
	file, groups := "testdata/default.plan", []string{"/sys/fs/cgroup/cpu,cpuacct/tare/golden/cgroup.procs", "/sys/fs/cgroup/pids/tare/golden/cgroup.procs"}
	if unified() {
		file, groups = "testdata/default-v2.plan", []string{"/sys/fs/cgroup/tare/golden/cgroup.procs"}
	}
	if mount.Legacy() {
		file = strings.TrimSuffix(file, ".plan") + "-5.10.plan"
	}
	start, err := NewStart(Config{ID: "golden", Spec: s, Root: cloneRoot(t, rootDir(t)), CgroupProcs: groups})
	if err != nil {
		t.Fatal(err)
	}
	defer start.Close()
	var got strings.Builder
	for line := range strings.Lines(start.Plan.String()) {
		if strings.Contains(line, "drop capability") || strings.Contains(line, "link core") || strings.Contains(line, "seccomp") {
			continue
		}
		_, line, _ = strings.Cut(strings.TrimLeft(line, " "), " ") // without its number
		got.WriteString(offsets.ReplaceAllString(line, "&data"))
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the plan is now (write it with -update)\n%s", got.String())
	}
}

// BenchmarkNewStart is what a plan costs before it runs: about 80 steps of
// 300 are mounts.
func BenchmarkNewStart(b *testing.B) {
	dir := rootDir(b)
	root := cloneRoot(b, dir)
	s := dockerSpec(b, "true")
	for i := range 3 {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}[i], Source: "/etc/passwd", Type: "bind", Options: []string{"rbind", "rprivate"}})
	}
	b.ReportAllocs()
	for b.Loop() {
		start, err := NewStart(Config{ID: "bench", Spec: s, Root: root})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer() // a mount that was never attached is slow to close
		start.Close()
		b.StartTimer()
	}
}
