package server

import (
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// connected returns both ends of a connection.
func connected(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if theirs, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return ours, theirs
}

// TestAwaitReadWaitsForThePeer until it has read, or for readTime. Only the clock
// is not the real one: nothing goes on while awaitRead waits but what is done here.
func TestAwaitReadWaitsForThePeer(t *testing.T) {
	for name, reads := range map[string]bool{"reads": true, "does not read": false} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := connected(t)
			if _, err := ours.Write([]byte("header")); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				returned := make(chan struct{})
				go func() { awaitRead(ours); close(returned) }()
				over := func() bool {
					synctest.Wait()
					select {
					case <-returned:
						return true
					default:
						return false
					}
				}
				if time.Sleep(readTime / 2); over() {
					t.Fatal("it does not wait")
				}
				if reads {
					b := make([]byte, 100)
					if n, err := theirs.Read(b); err != nil || string(b[:n]) != "header" {
						t.Errorf("read %q, %v", b[:n], err)
					}
					time.Sleep(time.Millisecond)
				} else {
					time.Sleep(readTime)
				}
				if !over() {
					t.Error("it waits on")
					time.Sleep(readTime)
				}
			})
		})
	}
}
