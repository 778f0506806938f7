package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var quietLog = log.New(io.Discard, "", 0)

// Fault answers a request in the registry's place; next is what would have
// answered it.
type Fault func(w http.ResponseWriter, req *http.Request, next http.Handler)

// Always is the number of times of a fault that does not end.
const Always = -1

type fault struct {
	method, part string
	left         int
	do           Fault
}

// Fault makes the next requests with the method whose path contains part fail.
// Faults set earlier come first.
func (r *Registry) Fault(method, part string, times int, f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &fault{method, part, times, f})
}

// Heal ends all faults.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

// nextFault returns what is to be done instead of an answer.
func (r *Registry) nextFault(req *http.Request) Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		if f.left != 0 && f.method == req.Method && strings.Contains(req.URL.Path, f.part) {
			f.left--
			return f.do
		}
	}
	return nil
}

// Hang does not answer at all.
func Hang(_ http.ResponseWriter, req *http.Request, _ http.Handler) { untilGone(req) }

// untilGone waits until the client has left.
func untilGone(req *http.Request) {
	io.Copy(io.Discard, req.Body) // or the server does not notice
	<-req.Context().Done()
}

// Stall sends so many bytes, then nothing.
func Stall(after int) Fault {
	return changed(func(w http.ResponseWriter, req *http.Request, a *httptest.ResponseRecorder) {
		begin(w, a, after)
		untilGone(req)
	})
}

// Trickle sends so many bytes, then one at a time.
func Trickle(after int, every time.Duration) Fault {
	return changed(func(w http.ResponseWriter, req *http.Request, a *httptest.ResponseRecorder) {
		rest := begin(w, a, after)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := range rest {
			select {
			case <-req.Context().Done():
				return
			case <-tick.C:
			}
			w.Write(rest[i : i+1])
			w.(http.Flusher).Flush()
		}
	})
}

// Cut sends so many bytes, then closes the connection.
func Cut(after int) Fault {
	return changed(func(w http.ResponseWriter, _ *http.Request, a *httptest.ResponseRecorder) {
		begin(w, a, after)
		panic(http.ErrAbortHandler)
	})
}

// CutUpload reads so many bytes of a request, gives them to the registry as if
// they were all, and closes the connection.
func CutUpload(after int64) Fault {
	return func(_ http.ResponseWriter, req *http.Request, next http.Handler) {
		part, _ := io.ReadAll(io.LimitReader(req.Body, after))
		r2 := req.Clone(req.Context())
		r2.Body, r2.ContentLength = io.NopCloser(bytes.NewReader(part)), int64(len(part))
		r2.Header.Del("Content-Range")
		next.ServeHTTP(httptest.NewRecorder(), r2)
		panic(http.ErrAbortHandler)
	}
}

// Status answers with a status and no document.
func Status(code int) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(code) }
}

// TooMany answers 429 with Retry-After.
func TooMany(retryAfter string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", retryAfter)
		deny(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "you have reached your limit")
	}
}

// Deny answers with an error of the specification.
func Deny(status int, code, message string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { deny(w, status, code, message) }
}

// Redirect sends the client elsewhere.
func Redirect(to string) Fault {
	return func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
		http.Redirect(w, req, to, http.StatusTemporaryRedirect)
	}
}

// Flip changes a byte in the middle of the answer.
func Flip(w http.ResponseWriter, req *http.Request, next http.Handler) {
	changedBody(func(b []byte) []byte {
		b[len(b)/2] ^= 1
		return b
	})(w, req, next)
}

// Shorten leaves out the last bytes, and says so in Content-Length.
func Shorten(by int) Fault {
	return changedBody(func(b []byte) []byte { return b[:len(b)-by] })
}

// Lengthen adds bytes, and says so in Content-Length.
func Lengthen(by int) Fault {
	return changedBody(func(b []byte) []byte { return append(b, make([]byte, by)...) })
}

// Unsized adds bytes (or takes them away, if fewer than none) without a
// Content-Length.
func Unsized(by int) Fault {
	return changed(func(w http.ResponseWriter, _ *http.Request, a *httptest.ResponseRecorder) {
		b := a.Body.Bytes()
		if by < 0 {
			b = b[:len(b)+by]
		} else {
			b = append(b, make([]byte, by)...)
		}
		a.Header().Del("Content-Length")
		copyHead(w, a)
		w.(http.Flusher).Flush()
		w.Write(b)
	})
}

// As gives the answer another media type.
func As(mediaType string) Fault { return With("Content-Type", mediaType) }

// Without leaves out a header of the answer.
func Without(header string) Fault {
	return changed(func(w http.ResponseWriter, _ *http.Request, a *httptest.ResponseRecorder) {
		a.Header().Del(header)
		copyHead(w, a)
		w.(http.Flusher).Flush() // or net/http adds a length
		w.Write(a.Body.Bytes())
	})
}

// NoRange sends all, whatever part was asked for.
func NoRange(w http.ResponseWriter, req *http.Request, next http.Handler) {
	req.Header.Del("Range")
	next.ServeHTTP(w, req)
}

// PageOf lets a list have at most n entries a page.
func PageOf(n int) Fault {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		q := req.URL.Query()
		q.Set("n", strconv.Itoa(n))
		req.URL.RawQuery = q.Encode()
		next.ServeHTTP(w, req)
	}
}

// With gives the answer a header.
func With(header, value string) Fault {
	return Edit(func(h http.Header) { h.Set(header, value) })
}

// Edit changes the headers of the answer.
func Edit(f func(http.Header)) Fault {
	return changed(func(w http.ResponseWriter, _ *http.Request, a *httptest.ResponseRecorder) {
		f(a.Header())
		copyHead(w, a)
		w.Write(a.Body.Bytes())
	})
}

// changed lets the registry answer into a recorder, and f use that.
func changed(f func(w http.ResponseWriter, req *http.Request, a *httptest.ResponseRecorder)) Fault {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		a := httptest.NewRecorder()
		next.ServeHTTP(a, req)
		f(w, req, a)
	}
}

func changedBody(f func([]byte) []byte) Fault {
	return changed(func(w http.ResponseWriter, _ *http.Request, a *httptest.ResponseRecorder) {
		b := f(a.Body.Bytes())
		a.Header().Set("Content-Length", strconv.Itoa(len(b)))
		copyHead(w, a)
		w.Write(b)
	})
}

func copyHead(w http.ResponseWriter, a *httptest.ResponseRecorder) {
	for k, v := range a.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(a.Code)
}

// begin sends the head and so many bytes, and returns the rest.
func begin(w http.ResponseWriter, a *httptest.ResponseRecorder, n int) []byte {
	copyHead(w, a)
	b := a.Body.Bytes()
	n = min(n, len(b))
	w.Write(b[:n])
	w.(http.Flusher).Flush()
	return b[n:]
}

// PutRaw has the front serve a document that the registry would not take. It
// can be had by the tag and by its digest.
func (r *Registry) PutRaw(repository, tag, mediaType string, b []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	serve := func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Docker-Content-Digest", d.Digest.String())
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		if req.Method != http.MethodHead {
			w.Write(b)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		r.Fault(method, repository+"/manifests/"+tag, Always, serve)
		r.Fault(method, repository+"/manifests/"+d.Digest.String(), Always, serve)
	}
	return d
}

// Both is a document that is a manifest and an index at once (CVE-2021-41190).
func Both(p Put, mediaType string) []byte {
	return marshal(map[string]any{
		"schemaVersion": 2, "mediaType": mediaType,
		"config": p.Config, "layers": p.Layers, "manifests": []ocispec.Descriptor{p.Manifest},
	})
}

// ManyLayers is the manifest of an image with n times its first layer.
func ManyLayers(p Put, n int) []byte {
	layers := make([]ocispec.Descriptor, n)
	for i := range layers {
		layers[i] = p.Layers[0]
	}
	return marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": p.Config, "layers": layers})
}

// Deep is the manifest of an image with an annotation of n lists in lists.
func Deep(p Put, n int) []byte {
	b := marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": p.Config, "layers": p.Layers, "annotations": json.RawMessage("null")})
	return bytes.Replace(b, []byte(`"annotations":null`), fmt.Appendf(nil, `"annotations":{"a":%s%s}`, strings.Repeat("[", n), strings.Repeat("]", n)), 1)
}

// PutBomb puts a gzipped layer that is n zeros.
func (r *Registry) PutBomb(repository string, n int64) ocispec.Descriptor {
	r.t.Helper()
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	must(err)
	zeros := make([]byte, 1<<20)
	for left := n; left > 0; left -= int64(len(zeros)) {
		_, err := w.Write(zeros[:min(left, int64(len(zeros)))])
		must(err)
	}
	must(w.Close())
	return r.PutBlob(repository, ocispec.MediaTypeImageLayerGzip, buf.Bytes())
}
