package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/auth"
	"golang.org/x/net/publicsuffix"

	"github.com/tare-engine/tare/internal/errdefs"
)

// clientID is what token servers know Docker's engine by.
const clientID = "docker"

// tokenMargin is how long before its end a token is not used any more.
const tokenMargin = 10 * time.Second

// authorizer decides which credentials the requests to an endpoint bear. It
// asks the endpoint once what it wants, as Docker does, and keeps tokens by
// scope until they end.
type authorizer struct {
	e *endpoint

	// turn is a lock that waits no longer than a context: whoever has put
	// something in may change what follows, also while a server is asked.
	turn      chan struct{}
	scheme    string // empty before the first answer
	challenge *auth.Challenge
	tokens    map[string]token
}

type token struct {
	bearer string
	until  time.Time
}

var _ docker.Authorizer = (*authorizer)(nil)

func (a *authorizer) lock(ctx context.Context) error {
	select {
	case a.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *authorizer) unlock() { <-a.turn }

// Authorize completes a request: with the scheme that the endpoint turned out
// to speak, and with credentials. Requests for other hosts stay as they are.
func (a *authorizer) Authorize(ctx context.Context, req *http.Request) error {
	if !a.e.s.is(req.URL) {
		return nil
	}
	ctx = expectingNothing(ctx) // the answers here are to questions of our own
	if err := a.lock(ctx); err != nil {
		return err
	}
	defer a.unlock()
	if err := a.settle(ctx); err != nil {
		return err
	}
	req.URL.Scheme = a.scheme
	h, err := a.authorization(ctx)
	if h != "" {
		req.Header.Set("Authorization", h)
	}
	if e, ok := errors.AsType[*responseError](err); ok && e.status < 500 {
		return forRequest(req, e)
	}
	return err
}

// forRequest says of which request the credentials failed, as Docker does.
func forRequest(req *http.Request, err error) error {
	op := req.Method[:1] + strings.ToLower(req.Method[1:])
	return errdefs.As(errdefs.Unauthorized, &url.Error{Op: op, URL: bareURL(req.URL.String()), Err: err})
}

// settle pings if that has not succeeded yet.
//
// Preconditions: it is our turn.
func (a *authorizer) settle(ctx context.Context) error {
	if a.scheme != "" {
		return nil
	}
	scheme, resp, err := a.e.ping(ctx)
	if err != nil {
		return err
	}
	a.scheme = scheme
	if resp.StatusCode == http.StatusUnauthorized {
		a.challenge = challengeOf(resp)
	}
	return nil
}

// challengeOf returns the challenge we can meet: a token's before a password's.
func challengeOf(resp *http.Response) *auth.Challenge {
	for _, c := range auth.ParseAuthHeader(resp.Header) {
		if c.Scheme == auth.BearerAuth || c.Scheme == auth.BasicAuth {
			return &c
		}
	}
	return nil
}

// authorization returns the header's value, empty for none.
//
// Preconditions: it is our turn.
func (a *authorizer) authorization(ctx context.Context) (string, error) {
	cred := a.e.cred
	switch {
	case cred.RegistryToken != "":
		return "Bearer " + cred.RegistryToken, nil
	case a.challenge == nil:
		return "", nil
	case a.challenge.Scheme == auth.BearerAuth:
		t, err := a.token(ctx)
		if err != nil {
			return "", err
		}
		return "Bearer " + t, nil
	case cred.Username != "" && cred.Password != "":
		return basic(cred), nil
	}
	return "", nil
}

func basic(c Credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// AddResponses is told of answers 401 to one request, the last one new. It
// returns nil if the request is worth repeating.
func (a *authorizer) AddResponses(ctx context.Context, responses []*http.Response) error {
	last := responses[len(responses)-1]
	if !a.e.s.is(last.Request.URL) {
		return newResponseError(last)
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	defer a.unlock()
	sent := last.Request.Header.Get("Authorization")
	c := challengeOf(last)
	switch {
	case c == nil:
		return newResponseError(last)
	case c.Scheme == auth.BasicAuth && a.e.cred.Username == "":
		return forRequest(last.Request, errNoBasic)
	case sent == "" && len(responses) == 1:
		a.challenge = c
		return nil
	case c.Scheme == auth.BearerAuth && len(responses) < 3 && c.Parameters["error"] != "insufficient_scope" && a.e.cred.RegistryToken == "":
		a.challenge = c
		clear(a.tokens) // it has ended earlier than it was to
		return nil
	}
	return newResponseError(last)
}

var errNoBasic = errors.New("no basic auth credentials")

// token returns a token for the context's scopes.
//
// Preconditions: it is our turn.
func (a *authorizer) token(ctx context.Context) (string, error) {
	scopes := docker.GetTokenScopes(ctx, nil)
	if s := a.challenge.Parameters["scope"]; s != "" && len(scopes) == 0 {
		scopes = strings.Fields(s)
	}
	key := strings.Join(scopes, " ")
	if t, ok := a.tokens[key]; ok && time.Until(t.until) > tokenMargin {
		return t.bearer, nil
	}
	t, _, err := a.fetch(ctx, scopes, false)
	if err != nil {
		return "", err
	}
	if len(a.tokens) > 100 {
		clear(a.tokens)
	}
	a.tokens[key] = t
	return t.bearer, nil
}

// fetch asks the token server. With offline it also asks for an identity token,
// which it returns if there is one.
//
// Preconditions: it is our turn.
func (a *authorizer) fetch(ctx context.Context, scopes []string, offline bool) (t token, identity string, err error) {
	cred := a.e.cred
	known := cred.IdentityToken != "" || cred.Username != "" && cred.Password != ""
	realm, err := a.e.s.realm(ctx, a.challenge.Parameters["realm"], known)
	if err != nil {
		return token{}, "", err
	}
	client := &http.Client{
		Transport: &transport{s: a.e.s, home: realm.Host, attempts: a.e.c.cfg.Attempts},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme || len(via) >= maxRedirects {
				return &transportError{text: "token server " + via[0].URL.Host + " redirects to " + req.URL.Host, final: true}
			}
			return nil
		},
	}
	to := auth.TokenOptions{Realm: realm.String(), Service: a.challenge.Parameters["service"], Scopes: scopes, FetchRefreshToken: offline}
	if cred.IdentityToken != "" {
		to.Secret = cred.IdentityToken
		r, err := auth.FetchTokenWithOAuth(quiet(ctx), client, a.e.c.header(), clientID, to)
		if err != nil {
			return token{}, "", tokenError(err)
		}
		return newToken(r.AccessToken, r.ExpiresInSeconds), r.RefreshToken, nil
	}
	if known {
		to.Username, to.Secret = cred.Username, cred.Password
		q := realm.Query()
		q.Set("account", cred.Username)
		q.Set("client_id", clientID)
		realm.RawQuery = q.Encode()
		to.Realm = realm.String()
	}
	r, err := auth.FetchToken(quiet(ctx), client, a.e.c.header(), to)
	if err != nil {
		return token{}, "", tokenError(err)
	}
	return newToken(r.Token, r.ExpiresInSeconds), r.RefreshToken, nil
}

// newToken: a token without a time lives for 60 seconds
// (https://distribution.github.io/distribution/spec/auth/token/).
func newToken(bearer string, seconds int) token {
	if seconds <= 0 {
		seconds = 60
	}
	return token{bearer, time.Now().Add(time.Duration(seconds) * time.Second)}
}

// tokenError makes an error of ours of an answer.
func tokenError(err error) error {
	if e, ok := responseErrorOf(err); ok {
		return e
	}
	return err
}

// realm reads the URL of a token server and decides whether it may be asked,
// and whether it may be shown credentials (known). The challenge is the word of
// whoever answers in the registry's place, so a server elsewhere is believed
// only if it belongs to the registry's domain (CVE-2020-15157).
func (s *site) realm(ctx context.Context, text string, known bool) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, unauthorized("registry %s: invalid token auth challenge realm", s.host.Host)
	}
	u.User, u.Fragment = nil, ""
	refuse := func(why string) error {
		return unauthorized("registry %s sends its users to the token server %s://%s, %s", s.host.Host, u.Scheme, u.Host, why)
	}
	if u.Scheme == "http" && !s.plain {
		return nil, refuse("which is not encrypted")
	}
	if ip, ok := literal(u.Hostname()); ok && !s.is(u) && s.near(ip) != nil {
		return nil, refuse("a local address")
	}
	if !known || s.is(u) {
		return u, nil
	}
	if !sameDomain(u.Hostname(), hostname(s.host.Host)) {
		return nil, refuse("which is not of its domain: the credentials are kept back")
	}
	if u.Scheme == "http" && !s.c.insecure.has(ctx, u.Host) {
		return nil, refuse("which is not encrypted: the credentials are kept back")
	}
	return u, nil
}

func unauthorized(format string, args ...any) error {
	return errdefs.New(errdefs.Unauthorized, format, args...)
}

// sameDomain reports whether two hosts are the same or have the same
// registrable domain: docker.io of registry-1.docker.io.
func sameDomain(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if a == b {
		return true
	}
	if isAddress(a) || isAddress(b) {
		return false
	}
	da, err := publicsuffix.EffectiveTLDPlusOne(a)
	if err != nil {
		return false
	}
	db, err := publicsuffix.EffectiveTLDPlusOne(b)
	return err == nil && da == db
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
