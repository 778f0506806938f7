package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "s")
	c := &Config{Hosts: []string{"unix://" + path}, Group: strconv.Itoa(os.Getgid())}
	e, err := listen(c)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if _, err := listen(c); err == nil || !strings.Contains(err.Error(), "another process listens on it") {
		t.Errorf("two engines: %v", err)
	}
	// A killed engine leaves its socket.
	e.listeners[0].(*net.UnixListener).SetUnlinkOnClose(false)
	e.close()
	if e, err = listen(c); err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	e.close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after a clean end: %v", err)
	}
}

func TestSocketIsPrivateFromTheFirstMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := bindPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func TestSocketReplacesNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(&Config{Hosts: []string{"unix://" + path}, Group: "0"}); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Error(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("%q", b)
	}
}

func TestAllListenersOrNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := listen(&Config{Hosts: []string{"unix://" + path, "fd://"}, Group: "0"}); err == nil || !strings.Contains(err.Error(), "no sockets found via socket activation") {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("left over: %v", err)
	}
}

func TestGroups(t *testing.T) {
	if gid, err := groupID(defaultGroup + "-not-here"); err == nil {
		t.Errorf("gid %d of no group", gid)
	}
	if gid, err := groupID("1234"); gid != 1234 || err != nil {
		t.Error(gid, err)
	}
	if gid, err := groupID("root"); gid != 0 || err != nil {
		t.Error(gid, err)
	}
}

// authority signs certificates for the tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes NAME.pem and NAME-key.pem.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(key)
	for file, b := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(a.path(file), pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, _ := x509.ParseCertificate(der)
	return cert, key
}

func (a *authority) server(name string) {
	a.issue(name, &x509.Certificate{DNSNames: []string{"engine.example"}, IPAddresses: []net.IP{{127, 0, 0, 1}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

func TestTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	a.server("server")
	client := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	a.issue("client", client)
	stranger.issue("client", client)
	c := &Config{
		Hosts: []string{"tcp://127.0.0.1:0"}, TLSVerify: true,
		TLSCACert: a.path("ca.pem"), TLSCert: a.path("server.pem"), TLSKey: a.path("server-key.pem"),
	}
	e, err := listen(c)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	if strings.Join(e.names(), " ") != "engine.example 127.0.0.1" {
		t.Errorf("names %q", e.names())
	}
	go func() {
		for {
			conn, err := e.listeners[0].Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("in"))
			_ = conn.Close()
		}
	}()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	dial := func(conf *tls.Config) (*x509.Certificate, error) {
		conf.RootCAs = pool
		conn, err := tls.Dial("tcp", e.listeners[0].Addr().String(), conf)
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close() }()
		_, err = conn.Read(make([]byte, 2)) // with TLS 1.3 the refusal comes here
		return conn.ConnectionState().PeerCertificates[0], err
	}
	pair := func(a *authority) []tls.Certificate {
		p, err := tls.LoadX509KeyPair(a.path("client.pem"), a.path("client-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{p}
	}
	if _, err := dial(&tls.Config{}); err == nil {
		t.Error("a client without a certificate is in")
	}
	if _, err := dial(&tls.Config{Certificates: pair(stranger)}); err == nil {
		t.Error("a client of another authority is in")
	}
	if _, err := dial(&tls.Config{Certificates: pair(a), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is in")
	}
	before, err := dial(&tls.Config{Certificates: pair(a)})
	if err != nil {
		t.Fatal(err)
	}
	// New files are taken into use; bad ones are not.
	a.server("server")
	if err := e.reload(c); err != nil {
		t.Fatal(err)
	}
	after, err := dial(&tls.Config{Certificates: pair(a)})
	if err != nil || after.Equal(before) {
		t.Errorf("after a reload: %v", err)
	}
	if err := os.WriteFile(c.TLSCert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.reload(c); err == nil || !strings.Contains(err.Error(), c.TLSCert) {
		t.Error(err)
	}
	if still, err := dial(&tls.Config{Certificates: pair(a)}); err != nil || !still.Equal(after) {
		t.Errorf("after a bad reload: %v", err)
	}
}

func TestTCPAddresses(t *testing.T) {
	tests := []struct {
		addr   string
		secure bool
		want   string
	}{
		{"", false, "127.0.0.1:2375"},
		{"", true, "127.0.0.1:2376"},
		{"10.0.0.1", true, "10.0.0.1:2376"},
		{"[::1]", false, "[::1]:2375"},
		{":2377", true, ":2377"},
		{"0.0.0.0:1", false, "0.0.0.0:1"},
		{"host.example:", true, "host.example:2376"},
	}
	for _, tt := range tests {
		if got := tcpAddr(tt.addr, tt.secure); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.addr, got, tt.want)
		}
	}
}

func TestPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x", "tared.pid")
	remove, err := writePIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); strings.TrimSpace(string(b)) != strconv.Itoa(os.Getpid()) {
		t.Errorf("%q", b)
	}
	remove()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error(err)
	}
	// A process of another name has the number of a killed engine.
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	for _, stale := range []string{strconv.Itoa(other.Process.Pid), "4194304", "nonsense", "-1", ""} {
		if err := os.WriteFile(path, []byte(stale), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := writePIDFile(path); err != nil {
			t.Errorf("stale %q: %v", stale, err)
		}
	}
	// A process of ours is alive.
	twin := exec.Command(os.Args[0], "-test.run=^TestSleep$")
	twin.Env = append(os.Environ(), "SLEEP=1")
	if err := twin.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = twin.Process.Kill(); _ = twin.Wait() }()
	if err := os.WriteFile(path, []byte(strconv.Itoa(twin.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := writePIDFile(path); err == nil || !strings.Contains(err.Error(), "is still running") {
		t.Errorf("alive: %v", err)
	}
}

func TestSleep(*testing.T) {
	if os.Getenv("SLEEP") != "" {
		time.Sleep(time.Minute) // to be a process that runs
	}
}

// TestSystemdSockets plays systemd for a process of its own.
func TestSystemdSockets(t *testing.T) {
	if os.Getenv("LISTEN_FDS") != "" {
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		listenAsService(t)
		return
	}
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unixFile, _ := unix.(*net.UnixListener).File()
	tcpFile, _ := tcp.(*net.TCPListener).File()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSystemdSockets$")
	cmd.ExtraFiles = []*os.File{unixFile, tcpFile}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=tare:tcp")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the service removed systemd's socket: %v", err)
	}
}

func listenAsService(t *testing.T) {
	for _, host := range []string{"fd://tare", "fd://3"} {
		e, err := listen(&Config{Hosts: []string{host}})
		if err != nil || len(e.listeners) != 1 || e.listeners[0].Addr().Network() != "unix" {
			t.Fatalf("%s: %+v, %v", host, e, err)
		}
		e.close()
	}
	if _, err := listen(&Config{Hosts: []string{"fd://other"}}); err == nil || !strings.Contains(err.Error(), `no socket "other" among the 2 of systemd`) {
		t.Error(err)
	}
	if _, err := listen(&Config{Hosts: []string{"fd://"}}); err == nil || !strings.Contains(err.Error(), "root on this machine") {
		t.Errorf("tcp without certificates: %v", err)
	}
	if e, err := listen(&Config{Hosts: []string{"fd://"}, InsecureTCP: true}); err != nil || len(e.listeners) != 2 {
		t.Errorf("%+v, %v", e, err)
	}
}
