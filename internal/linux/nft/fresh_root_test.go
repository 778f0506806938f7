//go:build root

package nft

import (
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReplace(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	is, err := DstPort.Is("udp", 53)
	if err != nil {
		t.Fatal(err)
	}
	table := func(rules ...Rule) *Table {
		return &Table{Name: "x", Chains: []Chain{{Name: "out", Hook: Output, Priority: PriorityRaw, Rules: rules}}}
	}
	list := func() string {
		out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		return string(out)
	}
	for range 2 {
		if err := Replace(table(Rule{is, Drop()}, Rule{is, Accept()})); err != nil {
			t.Fatal(err)
		}
		if got := list(); strings.Count(got, "dport 53") != 2 {
			t.Error(got)
		}
	}
	if err := Replace(table(Rule{Jump("nosuch")})); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	if got := list(); strings.Count(got, "dport 53") != 2 {
		t.Error("a failure has changed the table: " + got)
	}
	if err := Replace(&Table{Name: "x", Sets: []*Set{LinkSet("s")}}); err == nil {
		t.Error("sets were left out")
	}
}
