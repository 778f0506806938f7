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

func TestEndIsNoReset(t *testing.T) {
	p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(p[1])
	for { // until its buffer is full
		if _, err := syscall.Write(p[1], make([]byte, 10000)); err != nil {
			break
		}
	}
	if err := End(p[0]); err != nil {
		t.Fatal(err)
	}
	syscall.Close(p[0])
	if n, err := syscall.Read(p[1], make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("the peer reads %d, %v in place of the end", n, err)
	}
}
