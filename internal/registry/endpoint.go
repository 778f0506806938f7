package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// endpoint is a site as one repository's user sees it.
type endpoint struct {
	c          *Client
	s          *site
	cred       Credentials // none for a mirror
	repository string
	client     *http.Client
	resolver   remotes.Resolver
	auth       authorizer
	last       bool        // there is no other place to ask
	out        atomic.Bool // it is not asked any more
}

func newEndpoint(c *Client, s *site, cred Credentials, last bool) *endpoint {
	e := &endpoint{c: c, s: s, last: last}
	if !s.mirror {
		e.cred = cred
	}
	attempts := 1
	if last {
		attempts = c.cfg.Attempts
	}
	e.client = &http.Client{Transport: &transport{s: s, home: s.host.Host, attempts: attempts}, CheckRedirect: s.redirect}
	e.auth = authorizer{e: e, turn: make(chan struct{}, 1), tokens: map[string]token{}}
	host := s.host
	host.Client, host.Authorizer = e.client, &e.auth
	e.resolver = docker.NewResolver(docker.ResolverOptions{
		Hosts:   func(string) ([]docker.RegistryHost, error) { return []docker.RegistryHost{host}, nil },
		Headers: c.header(),
	})
	return e
}

// quiet keeps containerd's packages from logging: URLs may hold signatures.
func quiet(ctx context.Context) context.Context {
	return log.WithLogger(ctx, silence)
}

var silence = func() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.PanicLevel)
	return logrus.NewEntry(l)
}()

// url returns the URL of a path below the API's root, with the scheme that
// the site was configured with.
func (e *endpoint) url(path string) *url.URL {
	return &url.URL{Scheme: e.s.host.Scheme, Host: e.s.host.Host, Path: e.s.host.Path + "/" + path}
}

// of returns the URL of a path in the repository.
func (e *endpoint) of(path string) *url.URL { return e.url(e.repository + "/" + path) }

// scoped adds what is to be done with the repository, for its token.
func (e *endpoint) scoped(ctx context.Context, actions string) context.Context {
	return docker.WithScope(ctx, "repository:"+e.repository+":"+actions)
}

// request is one that containerd's packages have no call for.
type request struct {
	method string
	url    *url.URL
	header http.Header
	body   func() (io.ReadCloser, error) // nil for none; called for each attempt
	size   int64                         // of body
	again  bool                          // the body is small and may be sent again at once
}

// do sends a request with the user's credentials. An answer of 400 and more is
// a *responseError; the caller closes the body of others.
func (e *endpoint) do(ctx context.Context, r request) (*http.Response, error) {
	var asked []*http.Response
	for {
		req, err := e.newRequest(ctx, r)
		if err != nil {
			return nil, err
		}
		if err := e.auth.Authorize(ctx, req); err != nil {
			return nil, errors.Join(err, closeBody(req))
		}
		resp, err := e.client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode < 400 {
			return resp, nil
		}
		if resp.StatusCode == http.StatusUnauthorized {
			asked = append(asked, resp)
			err = e.auth.AddResponses(ctx, asked)
		} else {
			err = newResponseError(resp)
		}
		discard(resp)
		if err != nil {
			return nil, err
		}
	}
}

func closeBody(req *http.Request) error {
	if req.Body == nil {
		return nil
	}
	return req.Body.Close()
}

func (e *endpoint) newRequest(ctx context.Context, r request) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range e.s.host.Header {
		if e.s.is(req.URL) {
			req.Header[http.CanonicalHeaderKey(k)] = v
		}
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", e.c.cfg.UserAgent)
	if r.body == nil {
		return req, nil
	}
	if req.Body, err = r.body(); err != nil {
		return nil, err
	}
	req.ContentLength = r.size
	if r.size == 0 {
		req.Body.Close()
		req.Body = http.NoBody
	}
	if r.again {
		req.GetBody = r.body
	}
	return req, nil
}

// ping asks the API's root, which tells the scheme and how to log in.
func (e *endpoint) ping(ctx context.Context) (scheme string, resp *http.Response, err error) {
	schemes := []string{e.s.host.Scheme}
	if e.s.plain && e.s.host.Scheme == "https" {
		schemes = append(schemes, "http")
	}
	for _, scheme := range schemes {
		u := e.url("")
		u.Scheme = scheme
		if resp, err = e.pingAt(ctx, u); err == nil {
			return scheme, resp, nil
		}
		if _, ok := errors.AsType[*transportError](err); !ok {
			break
		}
	}
	return "", nil, err
}

// pingAt returns the answer without its body.
func (e *endpoint) pingAt(ctx context.Context, u *url.URL) (*http.Response, error) {
	req, err := e.newRequest(ctx, request{method: http.MethodGet, url: u})
	if err != nil {
		return nil, err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, err
	}
	discard(resp)
	return resp, nil
}

// discard ends an answer whose body is of no use. A short one is read, so that
// its connection can be used again.
func discard(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxErrorBody)
	resp.Body.Close()
}

// try calls f for one endpoint after the other until one does it. The error is
// the registry's, unless the mirrors have all the registry could say.
func (r *Repository) try(ctx context.Context, f func(e *endpoint) error) error {
	ends, err := r.endpoints(ctx)
	if err != nil {
		return err
	}
	for _, e := range ends {
		if e.out.Load() {
			continue
		}
		if err = f(e); err == nil || ctx.Err() != nil {
			return err
		}
		e.failed(err)
	}
	return err
}

// WithoutMirrors has only the registry itself asked from now on. It is for whoever
// finds that a blob has not the digest it was fetched by: a mirror may be wrong.
// It returns false if there were no mirrors left.
func (r *Repository) WithoutMirrors() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	were := false
	for _, e := range r.ends {
		if !e.last && !e.out.Swap(true) {
			were = true
		}
	}
	return were
}

// failed notes that an endpoint does not work. If there are others, it is left
// out from then on: nothing is lost but the time to find that out once more.
func (e *endpoint) failed(err error) {
	if !e.last && !hopeless(err) {
		e.out.Store(true)
	}
}
