package container

import (
	"io"
	"net"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
)

// A client whose input nobody has read gets the end of the stream, not a reset
// that takes with it what it has not read yet.
func TestUnreadInputResetsNoConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 20 {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		far, err := carry(conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			client.Write(make([]byte, 4<<20))
			client.(*net.TCPConn).CloseWrite()
		}()
		if _, err := far.WriteString("the last words"); err != nil {
			t.Fatal(err)
		}
		far.Close()
		if got, err := io.ReadAll(client); err != nil || string(got) != "the last words" {
			t.Fatalf("%q, %v", got, err)
		}
		<-sent
		client.Close()
	}
}

// Clients that name no keys, as most libraries, leave with Docker's; what goes
// into a pipe is data.
func TestDetachKeysAreForTerminals(t *testing.T) {
	for _, tt := range []struct {
		names string
		tty   bool
		want  string
	}{
		{"", true, "\x10\x11"},
		{"a,ctrl-b", true, "a\x02"},
		{"", false, ""},
		{"a", false, ""},
	} {
		if got, err := detachKeys(tt.names, tt.tty); string(got) != tt.want || err != nil {
			t.Errorf("%q with a terminal %v: %q, %v", tt.names, tt.tty, got, err)
		}
	}
	if _, err := detachKeys("ctrl-?", false); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Error(err)
	}
}
