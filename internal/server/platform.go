package server

import (
	"encoding/json"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tare-engine/tare/internal/errdefs"
)

// architectures are the other names of Go's names.
var architectures = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}

// parsePlatform reads "os", "os/arch" or "os/arch/variant".
func parsePlatform(s string) (*ocispec.Platform, error) {
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) > 3 {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid platform %q: cannot parse platform specifier", s)
	}
	for _, p := range parts {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "invalid platform %q: %q is an invalid component", s, p)
		}
	}
	p := &ocispec.Platform{OS: parts[0]}
	if len(parts) > 1 {
		p.Architecture = parts[1]
		if a := architectures[p.Architecture]; a != "" {
			p.Architecture = a
		}
	}
	if len(parts) > 2 {
		p.Variant = parts[2]
	}
	return p, nil
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
