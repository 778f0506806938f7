package server

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"

	"github.com/moby/moby/api/types/common"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// statusOf maps an error to the status of its answer: here and nowhere else.
func statusOf(err error) int {
	if _, ok := errors.AsType[*api.FilterError](err); ok {
		return http.StatusBadRequest
	}
	switch errdefs.KindOf(err) {
	case errdefs.InvalidArgument:
		return http.StatusBadRequest
	case errdefs.Unauthorized:
		return http.StatusUnauthorized
	case errdefs.Forbidden:
		return http.StatusForbidden
	case errdefs.NotFound:
		return http.StatusNotFound
	case errdefs.Conflict:
		return http.StatusConflict
	case errdefs.NotModified:
		return http.StatusNotModified
	case errdefs.TooLarge:
		return http.StatusRequestEntityTooLarge
	case errdefs.NotImplemented:
		return http.StatusNotImplemented
	case errdefs.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// fail answers with an error. Where an answer has begun already, the client
// must not take it for a whole one: the connection is cut.
func (s *Server) fail(w http.ResponseWriter, r *request, err error) {
	status := statusOf(err)
	err = s.explain(err)
	gone := r.Context().Err() != nil || errors.Is(err, context.Canceled)
	if r.Context().Err() != nil && status == http.StatusInternalServerError {
		status = http.StatusBadRequest // whoever closes one half of the connection still reads this
	}
	if status == http.StatusInternalServerError && !gone {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	switch {
	case r.hijacked:
	case r.begun:
		panic(http.ErrAbortHandler)
	case status == http.StatusNotModified:
		w.WriteHeader(status)
	default:
		_ = r.json(status, common.ErrorResponse{Message: err.Error()})
	}
}

// recoverPanic turns a bug met in one request into its answer.
func (s *Server) recoverPanic(r *request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.log.Error("panic in a request", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if r.begun || r.hijacked {
		panic(http.ErrAbortHandler)
	}
	_ = r.json(http.StatusInternalServerError, common.ErrorResponse{Message: "internal error"})
	if r.guard != nil {
		r.guard.ended()
	}
}
