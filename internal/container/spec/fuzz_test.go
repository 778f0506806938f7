package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moby/moby/api/types/container"
)

// FuzzSysctl: what is accepted belongs to a namespace of the container, and
// sets nothing else (CVE-2022-0811).
func FuzzSysctl(f *testing.F) {
	for _, s := range [][2]string{
		{"net.core.somaxconn", "1"}, {"net/ipv4/conf/eth0.1/forwarding", "1"}, {"kernel.shmmax", "1+kernel.core_pattern=|/x"},
		{"kernel.core_pattern", "|/x"}, {"net.a", "1\nkernel.core_pattern=x"}, {"net/../kernel/core_pattern", "x"}, {"fs.mqueue.msg_max", ""},
		{"kernel.domainname", "x"}, {"kernel/domainname", "x"}, {"/net.a", "1"}, {"net.\x00", "1"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		if validateSysctl(key, value, &container.HostConfig{}) != nil {
			return
		}
		if strings.ContainsAny(value, "\r\n") || strings.ContainsAny(key, "\x00\n ") {
			t.Fatalf("%q = %q", key, value)
		}
		// The kernel's file, both ways in which runtimes come to its name.
		for _, name := range []string{strings.ReplaceAll(key, ".", "/"), key} {
			var parts []string
			for p := range strings.SplitSeq(name, "/") {
				if p == ".." {
					t.Fatalf("%q climbs", key)
				}
				parts = append(parts, p)
			}
			flat := strings.ReplaceAll(strings.Join(parts, "."), "/", ".")
			if !strings.HasPrefix(flat, "net.") && !strings.HasPrefix(flat, "fs.mqueue.") && flat != "kernel.domainname" && !slices.Contains(ipcSysctls, flat) {
				t.Fatalf("%q is the host's", key)
			}
		}
		host := &container.HostConfig{NetworkMode: "host", IpcMode: "host", UTSMode: "host"}
		if validateSysctl(key, value, host) == nil {
			t.Fatalf("%q is accepted in the host's namespaces", key)
		}
	})
}

// FuzzDeviceRule: a rule is one device or one kind of them, and printed it is
// the same again.
func FuzzDeviceRule(f *testing.F) {
	for _, s := range []string{"c 1:3 rwm", "b *:* r", "a *:* rwm", "c 1:* m", "c 4294967296:1 r", "a 1:1 r", "c 1:3  r", "x 1:1 r", "c -1:0 r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseDeviceRule(text)
		if err != nil {
			return
		}
		number := func(n *int64) string {
			if n == nil {
				return "*"
			}
			return fmt.Sprint(*n)
		}
		printed := fmt.Sprintf("%s %s:%s %s", r.Type, number(r.Major), number(r.Minor), r.Access)
		again, err := parseDeviceRule(printed)
		if err != nil || !sameRule(r, again) || !r.Allow || !slices.Contains([]string{"a", "b", "c"}, r.Type) || strings.Trim(r.Access, "rwm") != "" {
			t.Fatalf("%q is %+v; printed it is %+v, %v", text, r, again, err)
		}
	})
}

func sameRule(a, b specs.LinuxDeviceCgroup) bool {
	same := func(x, y *int64) bool { return (x == nil) == (y == nil) && (x == nil || *x == *y) }
	return a.Type == b.Type && a.Access == b.Access && same(a.Major, b.Major) && same(a.Minor, b.Minor)
}
