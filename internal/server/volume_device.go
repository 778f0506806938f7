package server

import (
	"errors"
	"io"
	"net/http"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

func (s *Server) replaceVolumeDevice(_ http.ResponseWriter, r *request) error {
	var want api.VolumeReplaceRequest
	if err := r.body(&want); err != nil {
		return err
	}
	if err := s.backend.VolumeReplace(r.Context(), want); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) resizeVolume(_ http.ResponseWriter, r *request) error {
	var want api.VolumeResizeRequest
	if err := r.body(&want); err != nil {
		return err
	}
	if err := s.backend.VolumeResize(r.Context(), want); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) unlockVolume(_ http.ResponseWriter, r *request) error {
	key, err := r.key()
	defer clear(key)
	if err != nil {
		return err
	}
	if err := s.backend.VolumeUnlock(r.Context(), r.text("name"), key); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) lockVolume(_ http.ResponseWriter, r *request) error {
	if err := s.backend.VolumeLock(r.Context(), r.text("name")); err != nil {
		return err
	}
	return r.noContent()
}

// maxKey bounds what is read as a key.
const maxKey = 4096

// key reads a key, which the caller clears, and all that follows it: in pieces that are
// smaller than the connection's buffer, so that they go through that one and nothing of
// the key stays there.
func (r *request) key() ([]byte, error) {
	size, err := r.number("size")
	if err != nil {
		return nil, err
	}
	if size == nil || *size < 1 || *size > maxKey {
		return nil, errdefs.New(errdefs.InvalidArgument, "bad parameter: size: a key has 1 to %d bytes", maxKey)
	}
	key := make([]byte, *size)
	if _, err := io.ReadFull(r.Request.Body, key); err != nil {
		return key, errdefs.New(errdefs.InvalidArgument, "read a key of %d bytes: %w", *size, err)
	}
	piece := make([]byte, 512)
	for range api.KeyPadding / len(piece) {
		_, err := io.ReadFull(r.Request.Body, piece)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return key, nil
		}
		if err != nil {
			return key, errdefs.As(errdefs.InvalidArgument, err)
		}
	}
	return key, errdefs.New(errdefs.InvalidArgument, "more than %d bytes follow the key", api.KeyPadding)
}
