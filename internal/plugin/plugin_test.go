package plugin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
)

// answers is a plugin that says what it offers, and echoes.
func answers(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/Plugin.Activate", "/below/Plugin.Activate":
		fmt.Fprint(w, `{"Implements":["VolumeDriver"]}`)
	case "/Echo":
		if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Accept"), "application/vnd.docker.plugins.v1") {
			http.Error(w, "what?", http.StatusBadRequest)
			return
		}
		var in any
		json.NewDecoder(r.Body).Decode(&in)
		json.NewEncoder(w).Encode(in)
	case "/Redirect":
		http.Redirect(w, r, "/Echo", http.StatusTemporaryRedirect)
	default:
		http.NotFound(w, r)
	}
}

// at serves a plugin at a socket.
func at(t *testing.T, path string, h http.HandlerFunc) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestFilesThatTellOfPlugins(t *testing.T) {
	dir := t.TempDir()
	f := &Finder{Sockets: dir + "/run", Specs: []string{dir + "/etc", dir + "/lib"}}
	if err := os.MkdirAll(dir+"/run/nested", 0o755); err != nil {
		t.Fatal(err)
	}
	at(t, dir+"/run/plain.sock", answers)
	at(t, dir+"/run/nested/nested.sock", answers)
	at(t, dir+"/elsewhere", answers)
	plain := httptest.NewServer(http.HandlerFunc(answers))
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.HandlerFunc(answers))
	t.Cleanup(secure.Close)
	ca := dir + "/ca.pem"
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	write(t, dir+"/etc/unix.spec", "unix://"+dir+"/elsewhere\n")
	write(t, dir+"/lib/tcp.spec", strings.Replace(plain.URL, "http", "tcp", 1))
	write(t, dir+"/lib/deep/deep.json", `{"Name":"deep","Addr":"`+plain.URL+`/below/"}`)
	write(t, dir+"/etc/tls.json", `{"Addr":"`+strings.Replace(secure.URL, "https", "tcp", 1)+`","TLSConfig":{"CAFile":"`+ca+`"}}`)
	write(t, dir+"/lib/unix.spec", "nonsense, and not read")
	names := []string{"deep", "nested", "plain", "tcp", "tls", "unix"}
	if got := f.Names(); !slices.Equal(got, names) {
		t.Errorf("%q", got)
	}
	for _, name := range names {
		p, err := f.Get(t.Context(), name, "VolumeDriver")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "deep" {
			continue
		}
		var out map[string]string
		if err := p.Call(t.Context(), "Echo", map[string]string{"a": "b"}, &out); err != nil || out["a"] != "b" {
			t.Errorf("%s: %v, %v", name, out, err)
		}
		if again, err := f.Get(t.Context(), name, "VolumeDriver"); err != nil || again != p {
			t.Errorf("%s: another handshake, %v", name, err)
		}
	}
	if list, errs := f.Willing(t.Context(), "VolumeDriver"); len(list) != len(names) || len(errs) > 0 {
		t.Errorf("%d, %v", len(list), errs)
	}
	_, err := f.Get(t.Context(), "plain", "NetworkDriver")
	if err == nil || err.Error() != "legacy plugin: Plugin does not implement the requested driver" {
		t.Error(err)
	}
	if err := os.Remove(dir + "/etc/unix.spec"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), "unix", "VolumeDriver"); err == nil || !strings.Contains(err.Error(), "Unknown protocol") {
		t.Errorf("a plugin whose file has gone: %v", err)
	}
}

func TestFilesThatTellNonsense(t *testing.T) {
	dir := t.TempDir()
	f := &Finder{Sockets: dir, Specs: []string{dir}}
	for i, text := range []string{"", "ftp://host", "unix://relative/path", "unix:", "tcp://", "%", "tcp://a b", strings.Repeat("x", 70_000)} {
		name := fmt.Sprint("n", i)
		write(t, filepath.Join(dir, name+".spec"), text)
		if _, err := f.Get(t.Context(), name, "VolumeDriver"); err == nil || errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for i, text := range []string{"", "{", `{"Addr":"unix:///x"} trailing`, `{"Addr":"https://host","TLSConfig":{"CAFile":"/nope"}}`, `{"Addr":"https://host","TLSConfig":{"CertFile":"/nope"}}`, `[]`} {
		name := fmt.Sprint("j", i)
		write(t, filepath.Join(dir, name+".json"), text)
		if _, err := f.Get(t.Context(), name, "VolumeDriver"); err == nil || errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, name := range []string{"", ".", "..", "../n0", "/n0", "a/b", "n0\x00", strings.Repeat("n", 300), "absent"} {
		if _, err := f.Get(t.Context(), name, "VolumeDriver"); !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	dir := t.TempDir()
	f := &Finder{Sockets: dir}
	at(t, dir+"/bad.sock", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/Endless":
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "/Header":
			for i := range 100 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 1<<12))
			}
		case "/LongError":
			w.WriteHeader(http.StatusInternalServerError)
			json.NewEncoder(w).Encode(map[string]string{"Err": strings.Repeat("long\xff", 10_000)})
		case "/NoError":
			w.WriteHeader(http.StatusTeapot)
		case "/NoJSON":
			fmt.Fprint(w, "yes")
		default:
			answers(w, r)
		}
	})
	p, err := f.Get(t.Context(), "bad", "VolumeDriver")
	if err != nil {
		t.Fatal(err)
	}
	for method, text := range map[string]string{
		"Endless": "more than 8388608 bytes", "Header": "header", "LongError": "LongError: long", "NoError": "NoError: 418 I'm a teapot", "NoJSON": "the answer to NoJSON: invalid character", "Redirect": "Redirect: 307",
	} {
		var out any
		if err := p.Call(t.Context(), method, nil, &out); err == nil || !strings.Contains(err.Error(), text) || len(err.Error()) > 4096 {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// Who can go on without a plugin does not wait for one that has not answered lately.
func TestQuietPlugins(t *testing.T) {
	dir := t.TempDir()
	f := &Finder{Sockets: dir}
	at(t, dir+"/hangs.sock", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/Hang" {
			<-r.Context().Done()
			return
		}
		answers(w, r)
	})
	p, err := f.Get(t.Context(), "hangs", "VolumeDriver")
	if err != nil || p.Quiet() {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Call(ctx, "Hang", nil, nil); !errdefs.Is(err, errdefs.Unavailable) || p.Quiet() {
		t.Errorf("a client that leaves is the plugin's fault: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Call(ctx, "Hang", nil, nil); !errdefs.Is(err, errdefs.Unavailable) || !p.Quiet() {
		t.Error(err)
	}
	if list, errs := f.Willing(t.Context(), "VolumeDriver"); len(list) > 0 || len(errs) != 1 || !errors.Is(errs[0], errQuiet) {
		t.Errorf("%v, %v", list, errs)
	}
	if err := p.Call(t.Context(), "Echo", nil, nil); err != nil || p.Quiet() { // who needs it asks, and it is back
		t.Error(err)
	}
	if list, errs := f.Willing(t.Context(), "VolumeDriver"); len(list) != 1 || len(errs) > 0 {
		t.Errorf("%v, %v", list, errs)
	}
}

// A client that leaves while a plugin is asked what it offers is not the plugin's fault.
func TestAHandshakeThatNobodyWaitsFor(t *testing.T) {
	dir := t.TempDir()
	f := &Finder{Sockets: dir}
	asked := make(chan struct{})
	var once sync.Once
	at(t, dir+"/slow.sock", func(w http.ResponseWriter, r *http.Request) {
		first := false
		once.Do(func() { first = true; close(asked) })
		if first {
			<-r.Context().Done()
			return
		}
		answers(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := f.Get(ctx, "slow", "VolumeDriver"); !errdefs.Is(err, errdefs.Unavailable) {
		t.Error(err)
	}
	if list, errs := f.Willing(t.Context(), "VolumeDriver"); len(list) != 1 || len(errs) > 0 {
		t.Errorf("%v, %v", list, errs)
	}
}

func TestTLSIsChecked(t *testing.T) {
	dir := t.TempDir()
	s := httptest.NewUnstartedServer(http.HandlerFunc(answers))
	s.TLS = &tls.Config{}
	s.StartTLS()
	t.Cleanup(s.Close)
	f := &Finder{Specs: []string{dir}}
	write(t, dir+"/strict.json", `{"Addr":"`+s.URL+`","TLSConfig":{}}`)
	write(t, dir+"/loose.json", `{"Addr":"`+s.URL+`","TLSConfig":{"InsecureSkipVerify":true}}`)
	if _, err := f.Get(t.Context(), "strict", "VolumeDriver"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	if _, err := f.Get(t.Context(), "loose", "VolumeDriver"); err != nil {
		t.Error(err)
	}
}

func FuzzSpec(f *testing.F) {
	for _, s := range []string{`{"Addr":"tcp://h:1","TLSConfig":{}}`, "unix:///x", "tcp://h", "%"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []string{".spec", ".json"} {
			write(t, filepath.Join(dir, "f"+kind), text)
			if a, err := readSpec(filepath.Join(dir, "f"+kind)); err == nil && a.url == "" {
				t.Errorf("%q is no address", text)
			}
		}
	})
}
