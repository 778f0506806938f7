package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestBuildsTakeTheConnectionOver: what the client sends with the request is not lost.
func TestBuildsTakeTheConnectionOver(t *testing.T) {
	path := newServer(t, &fake{})
	for _, route := range []string{"/grpc", "/session", "/v1.40/grpc"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nearly", route)
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "h2c" {
			t.Error(route, resp.Status, resp.Header)
		}
		fmt.Fprint(conn, " late")
		got := make([]byte, len("early late"))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != "early late" {
			t.Errorf("%s: %q, %v", route, got, err)
		}
	}
}

func TestBuildsWantHTTP2(t *testing.T) {
	path := newServer(t, &fake{})
	for _, upgrade := range []string{"", "Upgrade: tcp\r\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /grpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", upgrade)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 400 || !strings.Contains(string(b), "h2c") {
			t.Error(resp.Status, string(b))
		}
	}
}

// TestBuildsWithoutAsking: BuildKit's clients may begin with HTTP/2, all of which is handed
// over; what is not quite that is a request of HTTP/1.
func TestBuildsWithoutAsking(t *testing.T) {
	path := newServer(t, &fake{})
	for first, want := range map[string]string{
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nlate",
		"PRI * HTTP/2.0\r\nHost: x\r\n\r\nSM\r\n\r\n": "HTTP/1.1 ",
		"PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n":            "HTTP/1.1 ",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, first, "late")
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", first, got, err)
		}
	}
}
