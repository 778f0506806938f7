package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tare-engine/tare/api"
)

// oldEngine speaks no version after 1.41 and counts what it is asked.
func oldEngine(t *testing.T, requests *atomic.Int32) *Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Api-Version", "1.41")
		switch {
		case r.URL.Path == "/_ping":
		case !strings.HasPrefix(r.URL.Path, "/v1.41/"):
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"message":"client version 1.56 is too new. Maximum supported API version is 1.41"}`)
		case strings.HasSuffix(r.URL.Path, "/kill"):
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"message":"No such container: x"}`)
		case strings.HasSuffix(r.URL.Path, "/attach"):
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
			h := api.Header(api.Stdout, 2)
			conn.Write(append(h[:], "hi"...))
			conn.Close()
		case strings.HasSuffix(r.URL.Path, "/load"):
			io.Copy(io.Discard, r.Body)
		default:
			io.WriteString(w, "[]")
		}
	}))
	t.Cleanup(s.Close)
	c, err := New(Options{Host: strings.Replace(s.URL, "http:", "tcp:", 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestVersionIsFoundOnce(t *testing.T) {
	var n atomic.Int32
	c := oldEngine(t, &n)
	for range 3 {
		if _, err := c.ContainerList(context.Background(), api.ListOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if n.Load() != 4 || c.Version().String() != "1.41" {
		t.Errorf("%d requests, version %s; want 4, 1.41", n.Load(), c.Version())
	}
}

func TestStreamsFindTheVersionToo(t *testing.T) {
	var n atomic.Int32
	c := oldEngine(t, &n)
	s, err := c.ContainerAttach(context.Background(), "x", api.AttachOptions{Stream: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out strings.Builder
	if err := s.Output(&out, io.Discard, false); err != nil || out.String() != "hi" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// TestABodyIsSentOnce: an archive cannot be read again, so the version is
// asked for before.
func TestABodyIsSentOnce(t *testing.T) {
	var n atomic.Int32
	c := oldEngine(t, &n)
	if err := c.ImageLoad(context.Background(), strings.NewReader("tar"), false, nil, nil); err != nil {
		t.Fatal(err)
	}
	if n.Load() != 2 {
		t.Errorf("%d requests, want ping and load", n.Load())
	}
}

func TestRefusalsKeepTextAndStatus(t *testing.T) {
	var n atomic.Int32
	err := oldEngine(t, &n).ContainerKill(context.Background(), "x", "")
	if !IsNotFound(err) || err.Error() != "Error response from daemon: No such container: x" {
		t.Errorf("%v (%d)", err, StatusOf(err))
	}
}

// TestAnotherEngineIsNoMissingObject: whatever an engine says that has no route
// of ours, and what one says that has it.
func TestAnotherEngineIsNoMissingObject(t *testing.T) {
	for name, c := range map[string]struct {
		header, body string
		own          bool
	}{
		"dockerd": {"", `{"message":"page not found"}`, false},
		"podman":  {"", "Not Found", false},
		"tared":   {"known", `{"message":"No such image: page not found:latest"}`, true},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.header != "" {
				w.Header().Set(api.OwnHeader, c.header)
			}
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, c.body)
		}))
		cl, err := New(Options{Host: strings.Replace(s.URL, "http:", "tcp:", 1)})
		if err != nil {
			t.Fatal(err)
		}
		_, run := cl.Run(t.Context(), api.RunRequest{})
		_, save := cl.ImageSaveIncrement(t.Context(), api.ImageSaveRequest{})
		_, blobs := cl.ImageBlobs(t.Context(), []string{"a"}, nil)
		_, missing := cl.ImageMissing(t.Context(), nil)
		stats := cl.Stats(t.Context(), nil)
		for _, got := range []struct{ err, none error }{{run, ErrNoRun}, {save, ErrNoIncrements}, {blobs, ErrNoIncrements}, {missing, ErrNoIncrements}, {stats, ErrNoStats}} {
			if c.own && !IsNotFound(got.err) || !c.own && !errors.Is(got.err, got.none) {
				t.Errorf("%s: %v", name, got.err)
			}
		}
		cl.Close()
		s.Close()
	}
}

func TestNoEngine(t *testing.T) {
	c, err := New(Options{Host: "unix:///nonexistent.sock"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Ping(context.Background())
	if _, ok := errors.AsType[*ConnectError](err); !ok {
		t.Errorf("got %v", err)
	}
	_, err = c.ContainerAttach(context.Background(), "x", api.AttachOptions{})
	if _, ok := errors.AsType[*ConnectError](err); !ok {
		t.Errorf("attach: got %v", err)
	}
}

// TestCancelledHijack gives up on an engine that takes a request and does not
// answer.
func TestCancelledHijack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := New(Options{Host: "tcp://" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			conn.Read(make([]byte, 1))
			cancel()
			io.Copy(io.Discard, conn)
		}
	}()
	if _, err := c.ContainerAttach(ctx, "x", api.AttachOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestHosts(t *testing.T) {
	for host, want := range map[string]string{
		"unix:///a/b":        "unix /a/b",
		"tcp://h":            "tcp h:2375",
		"tcp://h:1/base":     "tcp h:1",
		"https://h":          "tcp h:2376",
		"tcp://[::1]:5":      "tcp [::1]:5",
		"tcp://[::1]":        "tcp [::1]:2375",
		"http://1.2.3.4:567": "tcp 1.2.3.4:567",
	} {
		c, err := New(Options{Host: host})
		if err != nil {
			t.Errorf("%s: %v", host, err)
		} else if got := c.network + " " + c.address; got != want {
			t.Errorf("%s: dials %s, want %s", host, got, want)
		}
	}
	for _, host := range []string{"", "h", "unix://", "foo://x", "tcp://"} {
		if _, err := New(Options{Host: host}); err == nil {
			t.Errorf("%q is no address", host)
		}
	}
}
