package health

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tare-engine/tare/internal/errdefs"
)

var here = Inside{
	Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
	},
	Stat: func(_ context.Context, path string) (os.FileInfo, error) { return os.Stat(path) },
}

func ask(t *testing.T, test ...string) (int, string) {
	t.Helper()
	if err := Check(test); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	code, out, err := NewNative(test, here)(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return code, out
}

func TestHTTP(t *testing.T) {
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			w.Write([]byte("fine"))
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		default:
			http.Error(w, "no", http.StatusServiceUnavailable)
		}
	})
	plain, secure := httptest.NewServer(serve), httptest.NewTLSServer(serve)
	defer plain.Close()
	defer secure.Close()
	for url, want := range map[string]struct {
		code int
		text string
	}{
		plain.URL + "/ok":     {0, "200 OK\nfine"},
		secure.URL + "/ok":    {0, "200 OK\nfine"},
		plain.URL + "/moved":  {0, "302 Found"},
		plain.URL + "/broken": {1, "503 Service Unavailable\nno"},
	} {
		if code, out := ask(t, KindHTTP, url); code != want.code || !strings.HasPrefix(out, want.text) {
			t.Errorf("%s: %d %q", url, code, out)
		}
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", ""} {
		if code, out := ask(t, KindTCP, host+":"+port); code != 0 {
			t.Errorf("%q: %s", host, out)
		}
	}
	l.Close()
	if code, out := ask(t, KindTCP, "localhost:"+port); code != 1 || !strings.Contains(out, "127.0.0.1:"+port) || !strings.Contains(out, "refused") {
		t.Error(code, out)
	}
}

// TestGRPC asks the health service of the reference implementation.
func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	state := grpchealth.NewServer()
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, state)
	go s.Serve(l)
	defer s.Stop()
	state.SetServingStatus("db", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	addr := l.Addr().String()
	for _, c := range []struct {
		arg, text string
		code      int
	}{
		{addr, "SERVING", 0},
		{addr + "/db", "NOT_SERVING", 1},
		{addr + "/absent", "grpc status 5: unknown service", 1},
	} {
		if code, out := ask(t, KindGRPC, c.arg); code != c.code || out != c.text {
			t.Errorf("%s: %d %q", c.arg, code, out)
		}
	}
	state.SetServingStatus("db", grpc_health_v1.HealthCheckResponse_SERVING)
	if code, out := ask(t, KindGRPC, addr+"/db"); code != 0 {
		t.Error(out)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ready")
	if code, out := ask(t, KindFile, path); code != 1 || !strings.Contains(out, "no such file") {
		t.Error(code, out)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := ask(t, KindFile, path); code != 0 {
		t.Error(out)
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	for want, test := range map[string][]string{
		`unknown type "CURL"`:       {"CURL", "x"},
		"CMD-SHELL takes a command": {"CMD-SHELL"},
		"CMD takes a command":       {"CMD", ""},
		"HTTP takes one argument":   {"HTTP"},
		"begins with http://":       {"HTTP", "ftp://localhost/"},
		"the host is an IP address": {"HTTP", "http://example.org/"},
		`"x" is not a port`:         {"TCP", "localhost:x"},
		`"localhost" is not HOST`:   {"GRPC", "localhost/service"},
		"not an absolute path":      {"FILE", "ready"},
	} {
		err := Check(test)
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", test, err)
		}
	}
	for _, test := range [][]string{nil, {"NONE"}, {"CMD", "true"}, {"CMD-SHELL", "exit 1"}, {"HTTP", "https://[::1]/"}} {
		if err := Check(test); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkHTTP(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	p := NewNative([]string{KindHTTP, s.URL}, here)
	for b.Loop() {
		if code, out, err := p(b.Context()); code != 0 || err != nil {
			b.Fatal(out, err)
		}
	}
}
