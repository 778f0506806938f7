package server

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/tare-engine/tare/api"
)

// manifestBackend reads and writes manifests of registries, which stay there.
type manifestBackend interface {
	RegistryManifest(ctx context.Context, o api.ManifestOptions) (api.RegistryManifest, error)
	// ManifestPush says through out what is done. What goes wrong before the first
	// message is the answer.
	ManifestPush(ctx context.Context, o api.ManifestPush, auth *registry.AuthConfig, out func(jsonstream.Message)) error
}

func (s *Server) registryManifest(_ http.ResponseWriter, r *request) error {
	auth, err := r.auth()
	if err != nil {
		return err
	}
	m, err := s.backend.RegistryManifest(r.Context(), api.ManifestOptions{
		Ref: r.text("ref"), Insecure: r.flag("insecure"), Platform: r.flag("platform"), Members: r.flag("members"), Auth: auth,
	})
	if err != nil {
		return refused(err)
	}
	return r.json(http.StatusOK, m)
}

func (s *Server) pushManifest(_ http.ResponseWriter, r *request) error {
	auth, err := r.auth()
	if err != nil {
		return err
	}
	var body api.ManifestPush
	if err := r.body(&body); err != nil {
		return err
	}
	ctx, cancel := s.streamContext(r)
	defer cancel()
	return s.streamed(r, s.backend.ManifestPush(ctx, body, auth, r.progress()))
}
