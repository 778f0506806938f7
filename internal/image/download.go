package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/tare-engine/tare/internal/errdefs"
)

const (
	downloadHeader = 30 * time.Second // until the answer begins
	downloadStall  = 60 * time.Second // without a byte
	maxRedirects   = 10
)

// Download fetches what a URL leads to, by http or https. The engine sees more
// of the network than its client may: addresses of this machine, of its
// neighbours and of private networks are refused, whatever name or redirect
// leads to them (and no proxy is asked, which would hide them). A client that
// can reach such fetches it and sends the bytes.
func Download(ctx context.Context, source string, out func(jsonstream.Message)) (io.ReadCloser, error) {
	if !strings.Contains(source, "://") {
		source = "http://" + source
	}
	u, err := url.Parse(source)
	if err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	if err := checkURL(u); err != nil {
		return nil, err
	}
	r, err := fetch(ctx, u, refusePrivate)
	if err == nil { // what goes wrong before is the answer, with its own status
		out(jsonstream.Message{Status: "Downloading from " + u.Redacted()})
	}
	return r, err
}

// fetch begins a download, if control lets it dial.
func fetch(ctx context.Context, u *url.URL, control func(network, address string, c syscall.RawConn) error) (io.ReadCloser, error) {
	d := &net.Dialer{Timeout: downloadHeader, Control: control}
	c := &http.Client{
		Transport: &http.Transport{DialContext: d.DialContext, TLSHandshakeTimeout: downloadHeader, ResponseHeaderTimeout: downloadHeader, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects {
				return errdefs.New(errdefs.InvalidArgument, "more than %d redirects", maxRedirects)
			}
			return checkURL(r.URL)
		},
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	resp, err := c.Do(req)
	if err != nil {
		cancel(nil)
		if d, ok := errors.AsType[*net.DNSError](err); ok && d.IsNotFound {
			err = errdefs.As(errdefs.NotFound, err)
		}
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		cancel(nil)
		return nil, errdefs.As(kindOf(resp.StatusCode), errors.Join(fmt.Errorf("failed to GET %s with status %s", u.Redacted(), resp.Status), resp.Body.Close()))
	}
	stall := fmt.Errorf("%s: nothing has come for %s", u.Redacted(), downloadStall)
	return &download{ReadCloser: resp.Body, cancel: cancel, timer: time.AfterFunc(downloadStall, func() { cancel(stall) }), ctx: ctx}, nil
}

// kindOf makes what a server says about a download the engine's own answer.
func kindOf(status int) errdefs.Kind {
	switch status {
	case http.StatusUnauthorized:
		return errdefs.Unauthorized
	case http.StatusForbidden:
		return errdefs.Forbidden
	case http.StatusNotFound:
		return errdefs.NotFound
	}
	return errdefs.InvalidArgument
}

func checkURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return errdefs.New(errdefs.InvalidArgument, "unsupported scheme %.20q: images are imported by http and https", u.Scheme)
	}
	if u.Host == "" {
		return errdefs.New(errdefs.InvalidArgument, "%s: no host", u.Redacted())
	}
	return nil
}

// refusePrivate looks at the very address that is going to be dialed.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := a.Addr().Unmap(); !public(ip) {
		return errdefs.New(errdefs.Forbidden, "%s is no public address, which the engine does not fetch from: fetch the archive yourself and send it, as in \"curl URL | docker import -\"", ip)
	}
	return nil
}

// Networks that netip has no word for: of providers (RFC 6598), of this
// network (RFC 791), for benchmarks (RFC 2544), reserved (RFC 1112), and IPv6
// addresses that carry one of IPv4 (RFC 6052, RFC 3056).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
}

func public(ip netip.Addr) bool {
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	return ip.IsGlobalUnicast() && !ip.IsPrivate()
}

// download is an answer that must not stall.
type download struct {
	io.ReadCloser
	ctx    context.Context // of one download
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (d *download) Read(b []byte) (int, error) {
	n, err := d.ReadCloser.Read(b)
	d.timer.Reset(downloadStall)
	if err != nil && err != io.EOF && d.ctx.Err() != nil {
		err = context.Cause(d.ctx)
	}
	return n, err
}

// Close ends the download.
func (d *download) Close() error {
	d.timer.Stop()
	d.cancel(nil)
	return d.ReadCloser.Close()
}
