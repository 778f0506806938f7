package unixconn

import (
	"syscall"
	"testing"
)

func TestHungUp(t *testing.T) {
	p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(p[0])
	if HungUp(p[0]) {
		t.Fatal("a connected peer counts as gone")
	}
	if err := EndWrite(p[1]); err != nil {
		t.Fatal(err)
	}
	if HungUp(p[0]) {
		t.Fatal("a peer that ended its own direction counts as gone")
	}
	syscall.Close(p[1])
	if !HungUp(p[0]) {
		t.Fatal("a closed peer does not count as gone")
	}
}
