package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
)

// The first word of HealthConfig.Test says what kind of probe it is. The first
// three are Docker's, the others ours: the engine makes those itself.
const (
	kindNone  = "NONE"
	kindExec  = "CMD"
	KindShell = "CMD-SHELL" // by the image's shell
	KindHTTP  = "HTTP"      // http or https URL; the answer's status decides
	KindTCP   = "TCP"       // HOST:PORT; it accepts a connection
	KindGRPC  = "GRPC"      // HOST:PORT[/SERVICE]; grpc.health.v1 says SERVING
	KindFile  = "FILE"      // path in the container; the file is there
)

// Inside is how the engine reaches into a container for its own probes.
type Inside struct {
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error) // in its network namespace
	Stat func(ctx context.Context, path string) (os.FileInfo, error)    // in its root
}

// Native reports whether test is a probe that the engine makes itself.
func Native(test []string) bool {
	if len(test) == 0 {
		return false
	}
	switch test[0] {
	case KindHTTP, KindTCP, KindGRPC, KindFile:
		return true
	}
	return false
}

// Enabled reports whether test is a probe at all.
func Enabled(test []string) bool { return len(test) > 0 && test[0] != kindNone }

// Check returns an error that names what is wrong with test, InvalidArgument.
func Check(test []string) error {
	if len(test) == 0 {
		return nil
	}
	bad := func(format string, args ...any) error {
		return errdefs.New(errdefs.InvalidArgument, "Health.Test: "+format, args...)
	}
	switch kind := test[0]; kind {
	case "", kindNone:
		return nil
	case kindExec, KindShell:
		if len(test) < 2 || test[1] == "" {
			return bad("%s takes a command", kind)
		}
		return nil
	case KindHTTP, KindTCP, KindGRPC, KindFile:
		if len(test) != 2 {
			return bad("%s takes one argument, not %d", kind, len(test)-1)
		}
	default:
		return bad("unknown type %q: NONE, CMD, CMD-SHELL, HTTP, TCP, GRPC or FILE", kind)
	}
	var err error
	switch arg := test[1]; test[0] {
	case KindHTTP:
		_, err = parseURL(arg)
	case KindTCP:
		_, err = parseTargets(arg)
	case KindGRPC:
		addr, _, _ := strings.Cut(arg, "/")
		_, err = parseTargets(addr)
	case KindFile:
		if !strings.HasPrefix(arg, "/") {
			err = fmt.Errorf("%q is not an absolute path", arg)
		}
	}
	if err != nil {
		return bad("%w", err)
	}
	return nil
}

// NewNative returns the probe that test asks for. The test has passed Check
// and is Native.
func NewNative(test []string, in Inside) Probe {
	switch arg := test[1]; test[0] {
	case KindHTTP:
		return func(ctx context.Context) (int, string, error) { return verdict(probeHTTP(ctx, in, arg)) }
	case KindTCP:
		return func(ctx context.Context) (int, string, error) { return verdict(probeTCP(ctx, in, arg)) }
	case KindGRPC:
		return func(ctx context.Context) (int, string, error) { return verdict(probeGRPC(ctx, in, arg)) }
	default:
		return func(ctx context.Context) (int, string, error) { return verdict(probeFile(ctx, in, arg)) }
	}
}

// verdict makes a probe's outcome of a text and an error: 1 if it failed.
func verdict(text string, err error) (int, string, error) {
	if err != nil {
		return 1, err.Error(), nil
	}
	return 0, text, nil
}

// parseTargets reads HOST:PORT. The host is an address or localhost (or empty),
// which is tried as IPv4 and then as IPv6: other names would need the
// container's resolver, and a container's own address is what is probed.
func parseTargets(s string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not HOST:PORT", s)
	}
	if host == "" || host == "localhost" {
		a, err := netip.ParseAddrPort("127.0.0.1:" + port)
		if err != nil {
			return nil, fmt.Errorf("%q: %q is not a port", s, port)
		}
		return []netip.AddrPort{a, netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())}, nil
	}
	a, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("%q: the host is an IP address or localhost, with a port", s)
	}
	return []netip.AddrPort{a}, nil
}

// dial connects with the first of the targets that accepts.
func dial(ctx context.Context, in Inside, addr string) (net.Conn, error) {
	targets, err := parseTargets(addr)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, to := range targets {
		c, err := in.Dial(ctx, to)
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("connect to %s: %w", to, err))
	}
	return nil, errs[0] // the others are guesses
}

func probeTCP(ctx context.Context, in Inside, addr string) (string, error) {
	c, err := dial(ctx, in, addr)
	if err != nil {
		return "", err
	}
	return "connected to " + c.RemoteAddr().String(), c.Close()
}

func probeFile(ctx context.Context, in Inside, path string) (string, error) {
	i, err := in.Stat(ctx, path)
	if err != nil {
		return "", err
	}
	return path + " of " + i.ModTime().UTC().Format(time.RFC3339), nil
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q: the URL begins with http:// or https://", s)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	_, err = parseTargets(u.Host)
	return u, err
}

// request makes one request of its own connection: nothing is kept between two
// probes that a restarted program would have to answer for.
func request(ctx context.Context, in Inside, addr string, req *http.Request, proto func(*http.Protocols)) (*http.Response, func(), error) {
	t := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, in, addr) },
		DisableKeepAlives: proto == nil,
		// As a kubelet's probe: it asks for life, not for identity, and an
		// address has no certificate.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	if proto != nil {
		t.Protocols = new(http.Protocols)
		proto(t.Protocols)
	}
	res, err := t.RoundTrip(req.WithContext(ctx))
	if err != nil {
		t.CloseIdleConnections()
		return nil, nil, err
	}
	return res, func() { res.Body.Close(); t.CloseIdleConnections() }, nil
}

func probeHTTP(ctx context.Context, in Inside, arg string) (string, error) {
	u, err := parseURL(arg)
	if err != nil {
		return "", err
	}
	req := &http.Request{Method: http.MethodGet, URL: u, Header: http.Header{"User-Agent": {"tare-health"}}}
	res, done, err := request(ctx, in, u.Host, req, nil)
	if err != nil {
		return "", err
	}
	defer done()
	body, err := io.ReadAll(io.LimitReader(res.Body, MaxOutput))
	if err != nil {
		return "", err
	}
	text := res.Status
	if len(body) > 0 {
		text += "\n" + string(body)
	}
	if res.StatusCode < 200 || res.StatusCode > 399 {
		return "", errors.New(text)
	}
	return text, nil
}

// probeGRPC calls grpc.health.v1.Health/Check. The protocol ("gRPC over
// HTTP2") is a POST whose body is a message behind a byte 0 and its length.
func probeGRPC(ctx context.Context, in Inside, arg string) (string, error) {
	addr, service, _ := strings.Cut(arg, "/")
	msg := []byte{}
	if service != "" { // HealthCheckRequest{service = 1}
		msg = binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
		msg = append(msg, service...)
	}
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...)
	req := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: addr, Path: "/grpc.health.v1.Health/Check"},
		Header: http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"tare-health"}},
		Body:   io.NopCloser(bytes.NewReader(frame)), ContentLength: int64(len(frame)),
	}
	res, done, err := request(ctx, in, addr, req, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	if err != nil {
		return "", err
	}
	defer done()
	if res.StatusCode != http.StatusOK {
		return "", errors.New(res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, MaxOutput))
	if err != nil {
		return "", err
	}
	code, text := res.Trailer.Get("Grpc-Status"), res.Trailer.Get("Grpc-Message")
	if code == "" { // an answer of trailers only
		code, text = res.Header.Get("Grpc-Status"), res.Header.Get("Grpc-Message")
	}
	if code != "0" {
		return "", fmt.Errorf("grpc status %s: %s", code, text)
	}
	return servingStatus(body)
}

// servingStatus reads a HealthCheckResponse, whose only field is the status.
func servingStatus(frame []byte) (string, error) {
	const header, field = 5, 1 << 3
	status := uint64(0)
	if len(frame) > header {
		if frame[header] != field {
			return "", errors.New("grpc.health.v1: unexpected answer")
		}
		status, _ = binary.Uvarint(frame[header+1:])
	}
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if status >= uint64(len(names)) {
		return "", fmt.Errorf("grpc.health.v1: unknown status %d", status)
	}
	if status != 1 {
		return "", errors.New(names[status])
	}
	return names[status], nil
}
