package keeper

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestHeldPortsWithoutKeeper(t *testing.T) {
	root := t.TempDir()
	if held, err := HeldPorts(t.Context(), root); len(held) > 0 || err != nil {
		t.Error("nothing there:", held, err)
	}
	if err := os.Mkdir(filepath.Join(root, "keeper"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: SocketPath(root), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if held, err := HeldPorts(t.Context(), root); len(held) > 0 || err != nil {
		t.Error("a socket nobody listens on:", held, err)
	}
}

// TestHeldPortsFromAnOldKeeper is a keeper that ends a connection which does
// not begin with hello.
func TestHeldPortsFromAnOldKeeper(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "keeper"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: SocketPath(root), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Close()
		}
	}()
	if held, err := HeldPorts(t.Context(), root); len(held) > 0 || err == nil {
		t.Error(held, err)
	}
}
