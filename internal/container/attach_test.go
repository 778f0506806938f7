package container

import (
	"io"
	"net"
	"testing"
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
		far, err := carry(conn)
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
