package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker/auth"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/tare-engine/tare/internal/errdefs"
)

var (
	errNotAHost = errors.New("want HOST or HOST:PORT")
	errLongHost = errors.New("a name of a host has 253 bytes at most, 63 between dots")
)

func invalid(format string, args ...any) error {
	return errdefs.New(errdefs.InvalidArgument, format, args...)
}

// corrupt is an error in what a registry sent: asking again does not help.
func corrupt(format string, args ...any) error {
	return &corruptError{fmt.Sprintf(format, args...)}
}

type corruptError struct{ text string }

func (e *corruptError) Error() string { return e.text }

// transportError is a failure on the way. It hides its cause, so that no layer
// above takes it for one of those it repeats on its own.
type transportError struct {
	text   string
	broken bool // the connection, so the same request may do
	final  bool // repeating does not help
	plain  bool // the other end speaks plain HTTP
}

func (e *transportError) Error() string { return e.text }

// responseError is an answer of a registry or token server that says no.
type responseError struct {
	status int
	codes  []string // the specification's, for example MANIFEST_UNKNOWN
	text   string   // as Docker shows it
	after  time.Duration
}

func (e *responseError) Error() string { return e.text }

// passing reports whether the same request may succeed later.
func (e *responseError) passing() bool {
	return e.status == http.StatusTooManyRequests || e.status == http.StatusRequestTimeout ||
		e.status >= 500 && e.status != http.StatusNotImplemented
}

func (e *responseError) has(code string) bool { return len(e.codes) > 0 && e.codes[0] == code }

const (
	maxErrorBody = 64 << 10
	maxErrorText = 2 << 10
)

// newResponseError reads what a registry says about a request that it did not
// do. The caller closes the body.
func newResponseError(resp *http.Response) *responseError {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	return parseResponseError(resp.StatusCode, resp.Header, b)
}

func parseResponseError(status int, header http.Header, body []byte) *responseError {
	e := &responseError{status: status, after: retryAfter(header)}
	var lines []string
	if code, text := oauthError(header); code != "" {
		e.codes, lines = append(e.codes, code), append(lines, text)
	}
	for _, one := range parseErrors(body) {
		e.codes, lines = append(e.codes, one.Code), append(lines, one.text())
	}
	switch {
	case len(lines) == 1:
		e.text = lines[0]
	case len(lines) > 1:
		e.text = "errors:\n" + strings.Join(lines, "\n") + "\n"
	case status == http.StatusUnauthorized:
		e.codes, e.text = []string{"UNAUTHORIZED"}, "unauthorized: authentication required"
	case status == http.StatusForbidden:
		e.codes, e.text = []string{"DENIED"}, "denied: requested access to the resource is denied"
	case status == http.StatusTooManyRequests:
		e.codes, e.text = []string{"TOOMANYREQUESTS"}, "toomanyrequests: too many requests"
	default:
		e.text = fmt.Sprintf("received unexpected HTTP status: %d %s", status, http.StatusText(status))
	}
	if len(e.text) > maxErrorText {
		e.text = strings.ToValidUTF8(e.text[:maxErrorText], "") + "…"
	}
	return e
}

type codeAndMessage struct{ Code, Message string }

// text is how Docker shows an error of the specification.
func (e codeAndMessage) text() string {
	code := strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
	if e.Message == "" {
		return code + ": " + code
	}
	return code + ": " + e.Message
}

// parseErrors reads the errors of an answer; token servers of old say one
// without a list, in "details".
func parseErrors(body []byte) []codeAndMessage {
	var doc struct {
		Errors  []codeAndMessage
		Details string
	}
	if json.Unmarshal(body, &doc) != nil {
		return nil
	}
	if doc.Details != "" && len(doc.Errors) == 0 {
		return []codeAndMessage{{"UNAUTHORIZED", doc.Details}}
	}
	all := doc.Errors[:0]
	for _, e := range doc.Errors {
		if e.Code != "" && len(all) < 8 {
			all = append(all, e)
		}
	}
	return all
}

// oauthError reads the error in a challenge (RFC 6750, section 3.1): after a
// token that does not do, the answer of some registries has no body.
func oauthError(header http.Header) (code, text string) {
	for _, c := range auth.ParseAuthHeader(header) {
		var message string
		switch c.Parameters["error"] {
		case "invalid_token":
			code, message = "UNAUTHORIZED", "authentication required"
		case "insufficient_scope":
			code, message = "DENIED", "requested access to the resource is denied"
		default:
			continue
		}
		if d := c.Parameters["error_description"]; d != "" {
			message = d
		}
		return code, codeAndMessage{code, message}.text()
	}
	return "", ""
}

// retryAfter reads the header of that name: seconds, or a date. It is negative
// if there is none.
func retryAfter(header http.Header) time.Duration {
	s := header.Get("Retry-After")
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return time.Duration(min(n, 1<<20)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(time.Until(t), 0)
	}
	return -1
}

// responseErrorOf finds the answer in what containerd's packages return.
func responseErrorOf(err error) (*responseError, bool) {
	if e, ok := errors.AsType[*responseError](err); ok {
		return e, true
	}
	if e, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		return parseResponseError(e.StatusCode, nil, e.Body), true
	}
	return nil, false
}

// plain cuts an error down to what Docker shows: the request and its failure,
// or what the registry said. Queries are left out: they may hold a signature.
func plain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*errdefs.Error](err); ok {
		return e
	}
	if e, ok := responseErrorOf(err); ok {
		return e
	}
	if e, ok := errors.AsType[*corruptError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return &url.Error{Op: e.Op, URL: bareURL(e.URL), Err: e.Err}
	}
	return err
}

func bareURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(a URL that cannot be read)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// pullError puts an error of a pull into Docker's words and gives it a kind.
// The reference is what was asked for.
func pullError(ctx context.Context, ref reference.Named, err error) error {
	err = plain(ctx, err)
	if _, ok := errors.AsType[*errdefs.Error](err); ok {
		return err
	}
	e, ok := responseErrorOf(err)
	if !ok {
		if cerrdefs.IsNotFound(err) {
			return errdefs.New(errdefs.NotFound, "manifest for %s not found: manifest unknown: manifest unknown", reference.FamiliarString(ref))
		}
		return err
	}
	switch {
	case e.has("DENIED"):
		return errdefs.New(errdefs.NotFound, "pull access denied for %s, repository does not exist or may require 'docker login': %w", reference.FamiliarName(ref), e)
	case e.has("MANIFEST_UNKNOWN"):
		return errdefs.New(errdefs.NotFound, "manifest for %s not found: %w", reference.FamiliarString(ref), e)
	case e.has("NAME_UNKNOWN"):
		return errdefs.New(errdefs.NotFound, "repository %s not found: %w", reference.FamiliarName(ref), e)
	}
	return kinded(e)
}

// IsUnknown reports whether an error of a pull says that the registry has no such
// manifest or repository, to everybody's knowledge.
func IsUnknown(err error) bool {
	e, ok := responseErrorOf(err)
	return errdefs.Is(err, errdefs.NotFound) && (!ok || !e.has("DENIED"))
}

// kinded gives an answer its kind.
func kinded(err error) error {
	e, ok := errors.AsType[*responseError](err)
	if !ok {
		return err
	}
	if _, done := errors.AsType[*errdefs.Error](err); done {
		return err
	}
	switch e.status {
	case http.StatusUnauthorized:
		return errdefs.As(errdefs.Unauthorized, err)
	case http.StatusForbidden:
		return errdefs.As(errdefs.Forbidden, err)
	case http.StatusNotFound:
		return errdefs.As(errdefs.NotFound, err)
	}
	return err
}

// pushError puts an error of a push into Docker's words, which leave the
// request out where credentials failed.
func pushError(ctx context.Context, err error) error {
	err = plain(ctx, err)
	if u, ok := errors.AsType[*url.Error](err); ok {
		if _, answered := errors.AsType[*responseError](u.Err); answered || errors.Is(u.Err, errNoBasic) {
			return errdefs.As(errdefs.Unauthorized, u.Err)
		}
	}
	return kinded(err)
}

// hopeless reports whether trying again, here or now, makes no sense.
func hopeless(err error) bool {
	if e, ok := responseErrorOf(err); ok {
		return !e.passing()
	}
	if _, ok := errors.AsType[*corruptError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*errdefs.Error](err); ok {
		return true
	}
	if e, ok := errors.AsType[*transportError](err); ok {
		return e.final
	}
	return cerrdefs.IsNotFound(err)
}
