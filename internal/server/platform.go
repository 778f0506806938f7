package server

import (
	"encoding/json"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tare-engine/tare/internal/errdefs"
)

// parsePlatform reads "os", "arch", "os/arch" or "os/arch/variant"; the one that
// is not said is this machine's.
func parsePlatform(s string) (*ocispec.Platform, error) {
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	return &p, nil
}

// platforms returns a query parameter of which each value is an OCI platform as
// a JSON document. It is new with API version 1.since, and none before.
func (r *request) platforms(key string, since int) ([]ocispec.Platform, error) {
	if r.version.Before(since) {
		return nil, nil
	}
	var list []ocispec.Platform
	for _, s := range r.query[key] {
		if s == "" {
			continue
		}
		var p ocispec.Platform
		if err := json.Unmarshal([]byte(s), &p); err != nil {
			return nil, errdefs.New(errdefs.InvalidArgument, "failed to parse platform: %w", err)
		}
		if p.OS == "" && p.Architecture == "" && (p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0) {
			return nil, errdefs.New(errdefs.InvalidArgument, "optional platform fields provided, but OS and Architecture are missing")
		}
		if p.OS == "" || p.Architecture == "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "both OS and Architecture must be provided")
		}
		list = append(list, p)
	}
	return list, nil
}
