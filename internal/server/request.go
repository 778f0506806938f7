package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

const (
	maxBody     = 8 << 20          // of a JSON document
	maxDepth    = 64               // of its lists and objects; a create request has 6
	bodyTimeout = 30 * time.Second // for the client to send it
)

// request is one request on its way through a handler.
type request struct {
	*http.Request
	version  api.Version
	route    *route // nil: there is none
	name     string // what stood for {name} in the route
	query    url.Values
	w        http.ResponseWriter
	paced    *paced // what is behind w
	guard    *guard // what is behind that while authorization plugins are asked; nil: none
	log      *slog.Logger
	begun    bool // the answer's header is out
	hijacked bool // the connection belongs to the engine
}

func (r *request) parseQuery() (err error) {
	if r.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "invalid query: %w", err)
	}
	return nil
}

// text returns a query parameter.
func (r *request) text(key string) string {
	if v := r.query[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// flag returns a query parameter as Docker reads a boolean: anything that does
// not say no says yes.
func (r *request) flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.text(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// flagOr is flag with a default for a parameter that is absent.
func (r *request) flagOr(key string, absent bool) bool {
	if !r.query.Has(key) {
		return absent
	}
	return r.flag(key)
}

// number returns a query parameter as a number, nil if it is absent.
func (r *request) number(key string) (*int, error) {
	s := r.text(key)
	if s == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid value for %s: %q: %w", key, s, errors.Unwrap(err))
	}
	return &n, nil
}

// filters returns the query parameter filters.
func (r *request) filters() (api.Filters, error) {
	return api.ParseFilters(r.text("filters"))
}

// time returns a time of the query.
func (r *request) time(key string) (time.Time, error) {
	t, err := api.ParseUnix(r.text(key))
	if err != nil {
		return t, errdefs.New(errdefs.InvalidArgument, "invalid value for %s: %w", key, err)
	}
	return t, nil
}

// body decodes the JSON document of a request into v. A request without one
// leaves v as it is; whether that will do is for the caller's next check.
func (r *request) body(v any) error {
	_, err := r.bodyBytes(v)
	return err
}

// bodyBytes is body, and returns the document for those who must look again.
func (r *request) bodyBytes(v any) ([]byte, error) {
	if err := checkContentType(r.Request); err != nil {
		return nil, err
	}
	if r.ContentLength == 0 {
		return nil, nil
	}
	b, err := r.readBody()
	if err != nil {
		return nil, err
	}
	if err := checkDocument(b); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid JSON: %w", atKey(b, err))
	}
	r.logUnknownFields(b, v)
	return b, nil
}

// readBody reads at most maxBody bytes, and does not wait for ever.
func (r *request) readBody() ([]byte, error) {
	if r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	rc := http.NewResponseController(r.w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // a test's recorder has none
	b, err := io.ReadAll(io.LimitReader(r.Request.Body, maxBody+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errdefs.New(errdefs.InvalidArgument, "read request body: not all of it has come within %s", bodyTimeout)
	}
	if err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "read request body: %w", err)
	}
	_ = rc.SetReadDeadline(time.Time{})
	if len(b) > maxBody {
		return nil, errTooLarge
	}
	return b, nil
}

var errTooLarge = errdefs.New(errdefs.TooLarge, "request body is larger than %d bytes", maxBody)

func checkContentType(r *http.Request) error {
	ct := r.Header.Get("Content-Type")
	if ct == "" && r.ContentLength == 0 {
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(ct)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return errdefs.New(errdefs.InvalidArgument, "malformed Content-Type header (%s): %w", ct, err)
	}
	if mediaType != "application/json" {
		return errdefs.New(errdefs.InvalidArgument, "unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return nil
}

var errNoDocument = errdefs.New(errdefs.InvalidArgument, "invalid JSON: got EOF while reading request body")

// checkDocument refuses what Go's decoder would take or trip over: invalid
// UTF-8, which it mends silently, nesting, and bytes after the document.
func checkDocument(b []byte) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return errNoDocument
	}
	if !utf8.Valid(b) {
		return errdefs.New(errdefs.InvalidArgument, "invalid JSON: not valid UTF-8")
	}
	depth, inText := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return errdefs.New(errdefs.InvalidArgument, "invalid JSON: nested deeper than %d", maxDepth)
			}
		case c == '}' || c == ']':
			if depth--; depth == 0 && len(bytes.TrimSpace(b[i+1:])) > 0 {
				return errdefs.New(errdefs.InvalidArgument, "unexpected content after JSON")
			}
		}
	}
	return nil
}

// logUnknownFields tells a developer of a misspelt field. Docker accepts them,
// so do we.
func (r *request) logUnknownFields(b []byte, v any) {
	if !r.log.Enabled(r.Context(), slog.LevelDebug) {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(reflect.New(reflect.TypeOf(v).Elem()).Interface()); err != nil {
		r.log.Debug("request body", "path", r.URL.Path, "error", err)
	}
}

// json answers with a JSON document.
func (r *request) json(status int, v any) error {
	r.begin(status, "application/json")
	enc := json.NewEncoder(r.w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return nil
}

// begin sends the header of the answer.
func (r *request) begin(status int, contentType string) {
	r.begun = true
	if contentType != "" {
		r.w.Header().Set("Content-Type", contentType)
	}
	r.w.WriteHeader(status)
}

// noContent is the answer that says only that it is done.
func (r *request) noContent() error {
	r.begin(http.StatusNoContent, "")
	return nil
}

// flush sends the client what was written so far.
func (r *request) flush() { _ = http.NewResponseController(r.w).Flush() }

// listOf makes an empty list of a nil one, which JSON would show as null.
func listOf[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
