package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker/auth"
	"github.com/moby/moby/api/types/registry"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Login tries credentials at a registry, named as Docker's command line does: a
// host, or a URL of one; empty is Docker Hub. It returns the identity token
// that the registry's token server gives for them, empty if it gives none.
func (c *Client) Login(ctx context.Context, host string, cred Credentials) (identityToken string, err error) {
	c = c.now()
	e, err := c.registryOf(ctx, host, cred)
	if err != nil {
		return "", err
	}
	identityToken, err = e.login(ctx)
	return identityToken, kinded(plain(ctx, err))
}

// registryOf returns the endpoint of a registry as a user names it.
func (c *Client) registryOf(ctx context.Context, host string, cred Credentials) (*endpoint, error) {
	name := host
	if u, err := url.Parse(host); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		name = u.Host
	}
	name, _, _ = strings.Cut(name, "/")
	switch name {
	case "", "index.docker.io", "registry-1.docker.io":
		name = "docker.io"
	}
	if err := CheckHost(name); err != nil {
		return nil, invalid("invalid registry %q: %w", name, err)
	}
	return c.endpointOf(ctx, name, cred)
}

func (c *Client) endpointOf(ctx context.Context, name string, cred Credentials) (*endpoint, error) {
	sites, err := c.sitesOf(ctx, name)
	if err != nil {
		return nil, err
	}
	return newEndpoint(c, sites[len(sites)-1], cred, true), nil
}

func (e *endpoint) login(ctx context.Context) (string, error) {
	a := &e.auth
	if err := a.lock(ctx); err != nil {
		return "", err
	}
	if err := a.settle(ctx); err != nil {
		a.unlock()
		return "", err
	}
	var identity string
	if a.challenge != nil && a.challenge.Scheme == auth.BearerAuth && e.cred.RegistryToken == "" {
		t, id, err := a.fetch(ctx, nil, true)
		if err != nil {
			a.unlock()
			return "", e.loginError(err)
		}
		a.tokens[""], identity = t, id
	}
	root := e.url("")
	root.Scheme = a.scheme
	a.unlock()
	resp, err := e.do(ctx, request{method: http.MethodGet, url: root})
	if re, ok := errors.AsType[*responseError](err); ok && re.status < 500 {
		if _, told := errors.AsType[*errdefs.Error](err); !told {
			return "", unauthorized("login attempt to %s failed with status: %d %s", root, re.status, http.StatusText(re.status))
		}
	}
	if err != nil {
		return "", err
	}
	discard(resp)
	return identity, nil
}

// loginError names the registry, not its token server, as Docker does.
func (e *endpoint) loginError(err error) error {
	re, ok := errors.AsType[*responseError](err)
	if !ok || re.status >= 500 {
		return err
	}
	u := e.url("")
	u.Scheme = e.auth.scheme
	return errdefs.As(errdefs.Unauthorized, &url.Error{Op: "Get", URL: u.String(), Err: re})
}

// Search asks a registry's search, which is of the first version of its API:
// Docker Hub has it, others mostly do not. The limit is 25 if it is 0.
func (c *Client) Search(ctx context.Context, host, term string, limit int, cred *Credentials) ([]registry.SearchResult, error) {
	c = c.now()
	if limit == 0 {
		limit = 25
	}
	if limit < 1 || limit > 100 {
		return nil, invalid("limit %d is outside the range of [1, 100]", limit)
	}
	if cred == nil {
		cred = &Credentials{}
	}
	e, err := c.registryOf(ctx, host, *cred)
	if err == nil && e.s.host.Host == registryHost("docker.io") {
		e, err = c.endpointOf(ctx, "index.docker.io", *cred) // where Docker Hub has it
	}
	if err != nil {
		return nil, err
	}
	results, err := e.search(ctx, term, limit)
	return results, kinded(plain(ctx, err))
}

func (e *endpoint) search(ctx context.Context, term string, limit int) ([]registry.SearchResult, error) {
	a := &e.auth
	if err := a.lock(ctx); err != nil {
		return nil, err
	}
	err := a.settle(ctx)
	a.unlock()
	if err != nil {
		return nil, err
	}
	u := &url.URL{Scheme: a.scheme, Host: e.s.host.Host, Path: "/v1/search"}
	u.RawQuery = url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}.Encode()
	r := request{method: http.MethodGet, url: u, header: http.Header{"X-Docker-Token": {"true"}}}
	req, err := e.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	if e.cred.Username != "" && e.cred.Password != "" {
		req.Header.Set("Authorization", basic(e.cred))
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return nil, newResponseError(resp)
	}
	var doc registry.SearchResults
	if err := decode(resp.Body, &doc); err != nil {
		return nil, err
	}
	return doc.Results[:min(len(doc.Results), limit)], nil
}
