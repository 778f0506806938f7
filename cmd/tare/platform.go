package main

import (
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// parsePlatform reads os[/arch[/variant]]; "" is none.
func parsePlatform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, "/")
	for _, part := range parts {
		if part == "" || len(parts) > 3 {
			return nil, fmt.Errorf("error parsing specified platform: %q: cannot parse platform specifier: invalid argument", s)
		}
	}
	p := &ocispec.Platform{OS: parts[0]}
	if len(parts) > 1 {
		p.Architecture = parts[1]
	}
	if len(parts) > 2 {
		p.Variant = parts[2]
	}
	return p, nil
}

// parsePlatforms is parsePlatform for an option that may be given several times.
func parsePlatforms(texts []string) (platforms []ocispec.Platform, err error) {
	for _, text := range texts {
		p, err := parsePlatform(text)
		if err != nil {
			return nil, fmt.Errorf("invalid platform: %q: cannot parse platform specifier: invalid argument", text)
		}
		if p != nil {
			platforms = append(platforms, *p)
		}
	}
	return platforms, nil
}
