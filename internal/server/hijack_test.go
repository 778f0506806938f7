package server

import (
	"net"
	"path/filepath"
	"testing"
)

func TestAwaitReadWaitsForThePeer(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("header")); err != nil {
		t.Fatal(err)
	}
	next := make(chan error, 1)
	go func() {
		awaitRead(c)
		_, err := c.Write([]byte("output"))
		next <- err
	}()
	b := make([]byte, 100)
	if n, err := client.Read(b); err != nil || string(b[:n]) != "header" {
		t.Errorf("first read: %q, %v", b[:n], err)
	}
	if n, err := client.Read(b); err != nil || string(b[:n]) != "output" {
		t.Errorf("second read: %q, %v", b[:n], err)
	}
	if err := <-next; err != nil {
		t.Error(err)
	}
}
