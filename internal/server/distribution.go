package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// distributionBackend speaks to registries.
type distributionBackend interface {
	// ImagePull fetches an image and says through out how it gets on. What goes
	// wrong before the first message is the answer.
	ImagePull(ctx context.Context, o api.PullOptions, out func(jsonstream.Message)) error
	ImagePush(ctx context.Context, o api.PushOptions, out func(jsonstream.Message)) error
	ImageSearch(ctx context.Context, o api.SearchOptions) ([]registry.SearchResult, error)
	RegistryLogin(ctx context.Context, auth registry.AuthConfig) (registry.AuthResponse, error)
	DistributionInspect(ctx context.Context, name string, auth *registry.AuthConfig) (registry.DistributionInspect, error)
}

// maxAuth bounds the header with credentials; tokens have some KB.
const maxAuth = 64 << 10

// auth returns the credentials that came with the request, nil if none did:
// base64url (RFC 4648, section 5) of a JSON document, padded or not.
func (r *request) auth() (*registry.AuthConfig, error) {
	s := strings.TrimRight(r.Header.Get(registry.AuthHeader), "=")
	if s == "" {
		return nil, nil
	}
	if len(s) > maxAuth {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid %s header: %d bytes", registry.AuthHeader, len(s))
	}
	s = strings.NewReplacer("+", "-", "/", "_").Replace(s) // old clients
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid %s header: %w", registry.AuthHeader, err)
	}
	var a registry.AuthConfig
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid %s header: not the JSON document of credentials", registry.AuthHeader)
	}
	return &a, nil
}

// createImage pulls from a registry, with fromImage, or imports an archive.
func (s *Server) createImage(w http.ResponseWriter, r *request) error {
	repo := r.text("fromImage")
	if repo == "" && r.query.Has("fromSrc") {
		return s.importImage(w, r)
	}
	if repo == "" {
		return errdefs.New(errdefs.InvalidArgument, "neither fromImage nor fromSrc says where the image comes from")
	}
	auth, err := r.auth()
	if err != nil {
		return err
	}
	o := api.PullOptions{Repo: repo, Tag: r.text("tag"), Auth: auth}
	if p := r.text("platform"); p != "" && !r.version.Before(32) {
		if o.Platform, err = parsePlatform(p); err != nil {
			return err
		}
	}
	ctx, cancel := s.streamContext(r)
	defer cancel()
	return s.streamed(r, s.backend.ImagePull(ctx, o, r.progress()))
}

// streamed ends an answer that may have begun with messages.
func (s *Server) streamed(r *request, err error) error {
	if err != nil && !r.begun {
		return refused(err)
	}
	return s.endProgress(r, err)
}

// refused is the error of a registry that wants to know who asks. At 401 docker's
// command line would ask for a name and a password, also where nobody can type.
func refused(err error) error {
	if errdefs.Is(err, errdefs.Unauthorized) {
		return errdefs.As(errdefs.Forbidden, err)
	}
	return err
}

func (s *Server) pushImage(w http.ResponseWriter, r *request) error {
	auth, err := r.auth()
	if err != nil {
		return err
	}
	platforms, err := r.platforms("platform", 46)
	if err != nil {
		return err
	}
	o := api.PushOptions{Repo: r.name, Tag: r.text("tag"), Auth: auth}
	switch len(platforms) {
	case 0:
	case 1:
		o.Platform = &platforms[0]
	default:
		return errdefs.New(errdefs.InvalidArgument, "an image is pushed for one platform, or for all of them: %d are given", len(platforms))
	}
	ctx, cancel := s.streamContext(r)
	defer cancel()
	return s.streamed(r, s.backend.ImagePush(ctx, o, r.progress()))
}

func (s *Server) searchImages(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	auth, err := r.auth()
	if err != nil {
		return err
	}
	o := api.SearchOptions{Term: r.text("term"), Filters: f, Auth: auth}
	n, err := r.number("limit")
	if err != nil {
		return err
	}
	if n != nil {
		o.Limit = *n
	}
	found, err := s.backend.ImageSearch(r.Context(), o)
	if err != nil {
		return refused(err)
	}
	return r.json(http.StatusOK, listOf(found))
}

func (s *Server) login(w http.ResponseWriter, r *request) error {
	var a registry.AuthConfig
	if err := r.body(&a); err != nil {
		return err
	}
	answer, err := s.backend.RegistryLogin(r.Context(), a)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, answer)
}

func (s *Server) inspectDistribution(w http.ResponseWriter, r *request) error {
	auth, err := r.auth()
	if err != nil {
		return err
	}
	found, err := s.backend.DistributionInspect(r.Context(), r.name, auth)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, found)
}
