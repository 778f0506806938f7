package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxAnswer = 8 << 20 // of anything but a blob
	// minProgress is what has to come within Config.Stall to count as data: a
	// registry that sends a byte a second has stalled too.
	minProgress  = 4 << 10
	maxRedirects = 10
	maxPause     = time.Minute // a longer Retry-After is an error at once
	maxBackoff   = 10 * time.Second
)

var errSilent = errors.New("net/http: timeout awaiting response headers")

// expectation is what a request's sender knows of the answer; it travels in
// the request's context.
type expectation struct {
	mediaType    string // of a manifest, if it is known
	blob         bool   // instead of a manifest
	size, offset int64  // of a blob
	fails        int    // attempts before this one
}

type expectationKey struct{}

func expecting(ctx context.Context, x expectation) context.Context {
	return context.WithValue(ctx, expectationKey{}, x)
}

func expectingNothing(ctx context.Context) context.Context {
	return context.WithValue(ctx, expectationKey{}, nil)
}

// transport sends the requests to a site, or to its token server: within
// limits of time and size, several times if need be. It is what stands between
// all the layers above and the wire, so the last guard of credentials is here.
type transport struct {
	s        *site
	home     string // the only host that may see credentials
	attempts int
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Accept-Encoding", "identity") // sizes and ranges are of the bytes themselves
	if !t.mayKnow(req.URL) {
		req.Header.Del("Authorization")
	}
	attempts, before := t.attempts, 0
	if x, ok := req.Context().Value(expectationKey{}).(expectation); ok && x.blob {
		attempts, before = 1, x.fails // blobReader repeats
	}
	for fails := 1; ; fails++ {
		resp, err := t.once(req, t.s.c.cfg.stall(before+fails-1))
		if err == nil {
			return resp, nil
		}
		if fails >= attempts || !repeatable(req, err) {
			return nil, err
		}
		if err := t.s.c.pause(req.Context(), fails, err); err != nil {
			return nil, err
		}
		if req.GetBody != nil {
			req = req.Clone(req.Context())
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// mayKnow reports whether credentials may go with a request for u.
func (t *transport) mayKnow(u *url.URL) bool {
	return strings.EqualFold(u.Host, t.home) && (u.Scheme == "https" || t.s.plain)
}

func repeatable(req *http.Request, err error) bool {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false
	}
	if e, ok := errors.AsType[*responseError](err); ok {
		return e.passing()
	}
	e, ok := errors.AsType[*transportError](err)
	return ok && e.broken && !e.final
}

// pause waits before the next attempt after that many failures. It returns the
// error if there is no use in waiting.
func (c *Client) pause(ctx context.Context, fails int, err error) error {
	d := min(c.cfg.Backoff<<min(fails-1, 10), maxBackoff)
	d = d/2 + rand.N(d)
	if e, ok := responseErrorOf(err); ok && e.after >= 0 {
		if e.after > maxPause {
			return err
		}
		d = e.after + rand.N(c.cfg.Backoff)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// stall is Config.Stall for the attempt after so many failures: shorter ones, so
// that five of them give up after a minute, not after two and a half.
func (c *Config) stall(fails int) time.Duration {
	parts := []time.Duration{1, 3, 5, 8, 10}
	return c.Stall / parts[min(fails, len(parts)-1)]
}

// once makes one attempt, which stall bounds. Answers that may be others later
// are errors.
func (t *transport) once(req *http.Request, stall time.Duration) (*http.Response, error) {
	proxy, err := t.s.c.cfg.Proxy(req.URL)
	if err != nil {
		return nil, &transportError{text: "proxy: " + err.Error(), final: true}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	dog := newWatchdog(stall, func() { cancel(errSilent) })
	sent := req.WithContext(withProxy(ctx, proxy))
	if req.Body != nil && req.Body != http.NoBody {
		sent.Body = &upload{req.Body, dog, t.s.c.cfg.Stall}
	}
	resp, err := t.s.transport(ctx, req.URL, proxy != nil).RoundTrip(sent)
	dog.stop()
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		return nil, wireError(req.Context(), cause, err)
	}
	resp.Request = req
	b := &answer{rc: resp.Body, outer: req.Context(), ctx: ctx, cancel: cancel, c: t.s.c, left: stall, limit: maxAnswer}
	resp.Body = b
	if err := b.expect(req, resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// expect compares an answer's head with what the sender knows.
func (b *answer) expect(req *http.Request, resp *http.Response) error {
	if (&responseError{status: resp.StatusCode}).passing() {
		return newResponseError(resp)
	}
	x, ok := req.Context().Value(expectationKey{}).(expectation)
	if !ok || resp.StatusCode >= 300 {
		return nil
	}
	if !x.blob && resp.ContentLength > MaxManifest {
		return corrupt("manifest has %d bytes, at most %d are possible", resp.ContentLength, MaxManifest)
	}
	if req.Method != http.MethodGet {
		return nil
	}
	if x.blob {
		b.limit, b.limited = x.size+1, true
		return x.checkLength(resp)
	}
	return checkMediaType(x.mediaType, resp)
}

// checkLength compares the sizes that an answer's head tells with the
// descriptor's.
func (x expectation) checkLength(resp *http.Response) error {
	total := resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		var from, to int64
		n, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &total)
		if n < 2 {
			return corrupt("answer has no usable Content-Range: %v", err)
		}
		if from != x.offset {
			return corrupt("answer begins at byte %d, not %d", from, x.offset)
		}
		if n == 2 {
			total = -1
		}
	}
	if total >= 0 && total != x.size {
		return corrupt("blob has %d bytes, its descriptor says %d", total, x.size)
	}
	return nil
}

func checkMediaType(want string, resp *http.Response) error {
	if want == "" {
		return nil
	}
	if got := bareMediaType(resp.Header.Get("Content-Type")); got != want {
		return corrupt("manifest has media type %q, not %q", got, want)
	}
	return nil
}

func bareMediaType(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.TrimSpace(s)
}

// wireError makes an error of ours of one of net/http.
func wireError(outer context.Context, cause, err error) error {
	if outer.Err() != nil {
		return outer.Err()
	}
	if errors.Is(cause, errSilent) || errors.Is(cause, errStalled) {
		return &transportError{text: cause.Error(), broken: true}
	}
	if e, ok := errors.AsType[*corruptError](err); ok {
		return e
	}
	e := &transportError{text: err.Error()}
	// http.Client does the same, if it sees the error itself.
	if r, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(r.RecordHeader[:]) == "HTTP/" {
		e.text, e.plain = http.ErrSchemeMismatch.Error(), true
	}
	if inner, ok := errors.AsType[*transportError](err); ok {
		e.final = inner.final
	}
	e.broken = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	e.final = e.final || ofCertificate(err)
	return e
}

func ofCertificate(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.UnknownAuthorityError](err)
	return ok
}

// watchdog calls a function if nobody pats it for a while.
type watchdog struct {
	mu sync.Mutex
	// +checklocks:mu
	timer *time.Timer // nil once stopped
}

func newWatchdog(d time.Duration, bark func()) *watchdog {
	return &watchdog{timer: time.AfterFunc(d, bark)}
}

func (w *watchdog) pat(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(d)
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// upload is a request's body that keeps the watchdog quiet while it moves.
type upload struct {
	io.ReadCloser
	dog   *watchdog
	stall time.Duration
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	if err != nil {
		// The registry reads a whole layer again before it answers.
		u.dog.pat(10 * u.stall)
	} else {
		u.dog.pat(u.stall)
	}
	return n, err
}

var errStalled = errors.New("the registry sends no more data")

// answer is a response's body: bounded in bytes, and in how long it may send
// less than minProgress.
type answer struct {
	rc      io.ReadCloser
	outer   context.Context // of whoever asked
	ctx     context.Context // of the request
	cancel  context.CancelCauseFunc
	c       *Client
	left    time.Duration // for the rest of minProgress
	got     int           // of minProgress
	limit   int64         // bytes that may still come
	limited bool          // by Config.RateLimit
}

func (a *answer) Read(p []byte) (int, error) {
	if a.limit <= 0 && len(p) > 0 {
		return 0, corrupt("answer has more bytes than it may")
	}
	p = p[:min(int64(len(p)), a.limit)]
	if a.limited && a.c.limit != nil {
		p = p[:min(len(p), a.c.limit.Burst())]
	}
	start := time.Now()
	timer := time.AfterFunc(a.left, func() { a.cancel(errStalled) })
	n, err := a.rc.Read(p)
	timer.Stop()
	a.limit -= int64(n)
	a.left -= time.Since(start)
	if a.got += n; a.got >= minProgress {
		a.got, a.left = 0, a.c.cfg.Stall
	}
	if err != nil && err != io.EOF {
		return n, wireError(a.outer, context.Cause(a.ctx), err)
	}
	if err == nil && a.left <= 0 {
		return n, &transportError{text: errStalled.Error(), broken: true}
	}
	if a.limited && a.c.limit != nil && n > 0 {
		if werr := a.c.limit.WaitN(a.outer, n); werr != nil {
			return n, werr
		}
	}
	return n, err
}

func (a *answer) Close() error {
	err := a.rc.Close()
	a.cancel(nil)
	return err
}

// keptAcross are the headers that follow a redirect to another host.
var keptAcross = []string{"Accept", "Accept-Encoding", "Range", "User-Agent"}

// redirect decides whether a redirect is followed, and with what.
func (s *site) redirect(req *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL
	refuse := func(why string) error {
		return &transportError{text: fmt.Sprintf("redirect from %s://%s to %s://%s refused: %s", from.Scheme, from.Host, req.URL.Scheme, req.URL.Host, why), final: true}
	}
	if len(via) >= maxRedirects {
		return refuse("too many redirects")
	}
	if from.Scheme == "https" && req.URL.Scheme != "https" {
		return refuse("not encrypted")
	}
	req.URL.User = nil
	req.Header.Del("Referer")
	if s.is(req.URL) {
		return nil
	}
	if ip, ok := literal(req.URL.Hostname()); ok && s.near(ip) != nil {
		return refuse("local address")
	}
	kept := http.Header{}
	for _, k := range keptAcross {
		if v := req.Header[k]; v != nil {
			kept[k] = v
		}
	}
	req.Header = kept
	return nil
}

// literal returns the address that a host name says without a name server.
func literal(host string) (netip.Addr, bool) {
	if host = strings.TrimSuffix(strings.ToLower(host), "."); host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return netip.IPv6Loopback(), true
	}
	ip, err := netip.ParseAddr(host)
	return ip, err == nil
}
