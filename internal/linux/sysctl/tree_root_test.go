//go:build root

package sysctl

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTreeWritesInTheNamespaceOfTheThread makes more namespaces than one procfs is used
// for, and writes in each.
func TestTreeWritesInTheNamespaceOfTheThread(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	made := 0
	tree := NewTree(func() (*os.File, error) { made++; return os.Open("/proc") })
	const name = "net/ipv4/conf/default/route_localnet"
	for range treeUses + 1 {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		if err := tree.Write(name, "1"); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile("/proc/sys/" + name)
		if err != nil || string(b) != "1\n" {
			t.Fatalf("%q %v", b, err)
		}
	}
	if made != 2 {
		t.Errorf("%d times a procfs was made", made)
	}
	if err := tree.Write("net/nosuch", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	tree.Close()
	if err := tree.Write(name, "0"); err != nil || made != 3 {
		t.Error(err, made)
	}
	tree.Close()
}
