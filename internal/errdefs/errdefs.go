// Package errdefs says what the caller of a failed operation can do about it.
//
// An error is classified once, where the cause is known:
//
//	return errdefs.New(errdefs.NotFound, "No such container: %s", name)
//
// and carries its kind through any number of fmt.Errorf("…: %w") above it.
// The server maps kinds to status codes in one place.
package errdefs

import (
	"errors"
	"fmt"
)

// Kind classifies an error by what its receiver can do.
type Kind int

// Kinds. The numbers beside them are the HTTP status that the Engine API gives.
const (
	Internal        Kind = iota // 500: our fault; logged
	InvalidArgument             // 400: the request can never succeed as it is
	Unauthorized                // 401
	Forbidden                   // 403
	NotFound                    // 404
	Conflict                    // 409: the object's state is in the way
	NotModified                 // 304: it is as asked for already
	TooLarge                    // 413
	NotImplemented              // 501
	Unavailable                 // 503: later it may work
)

// Error is a text with a kind.
type Error struct {
	kind Kind
	text string
	err  error
}

// New makes an error of the kind; the format may wrap another with %w.
func New(k Kind, format string, args ...any) error {
	e := fmt.Errorf(format, args...)
	return &Error{kind: k, text: e.Error(), err: errors.Unwrap(e)}
}

// As gives err the kind k and keeps its text. It returns nil for nil.
func As(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{kind: k, text: err.Error(), err: err}
}

func (e *Error) Error() string { return e.text }

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.err }

// KindOf returns the kind of the outermost classified error in err's chain,
// Internal if there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.kind
	}
	return Internal
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
