package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/plugins/content/local"
	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layoutPrefix begins a context that is an image in a directory of this machine:
// oci-layout://DIR[:TAG][@DIGEST].
const layoutPrefix = "oci-layout://"

// layout makes an image of an OCI layout a context, which the engine reads through the
// session.
func layout(s *bkclient.SolveOpt, name, where string) error {
	dir, tag, d, err := splitLayout(strings.TrimPrefix(where, layoutPrefix))
	if err == nil && d == "" {
		d, err = resolveLayout(dir, tag)
	}
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()))
	}
	if errors.Is(err, fs.ErrNotExist) && d != "" {
		err = fmt.Errorf("it has no %s", d)
	}
	if err != nil {
		return fmt.Errorf("build context %s: OCI layout %q: %w", name, dir, err)
	}
	store, err := local.NewStore(dir)
	if err != nil {
		return fmt.Errorf("build context %s: OCI layout %q: %w", name, dir, err)
	}
	if s.OCIStores == nil {
		s.OCIStores = map[string]content.Store{}
	}
	id := fmt.Sprintf("layout-%d", len(s.OCIStores))
	s.OCIStores[id] = store
	s.FrontendAttrs["context:"+name] = layoutPrefix + id + "@" + d.String()
	return nil
}

// splitLayout reads DIR[:TAG][@DIGEST].
func splitLayout(s string) (dir, tag string, d digest.Digest, err error) {
	if n := strings.LastIndexByte(s, '@'); n >= 0 {
		d = digest.Digest(s[n+1:])
		if err := d.Validate(); err != nil {
			return s, "", "", fmt.Errorf("digest %q: %w", d, err)
		}
		s = s[:n]
	}
	if n := strings.LastIndexByte(s, ':'); n > strings.LastIndexByte(s, '/') {
		s, tag = s[:n], s[n+1:]
	}
	return s, tag, d, nil
}

// resolveLayout finds an image in the index of a layout: the one with a tag, without a
// tag the only one or the one that is tagged latest.
func resolveLayout(dir, tag string) (digest.Digest, error) {
	b, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return "", err
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return "", fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	if tag == "" && len(index.Manifests) == 1 {
		return valid(index.Manifests[0].Digest)
	}
	wanted := tag
	if tag == "" {
		wanted = "latest"
	}
	var tags []string
	for _, m := range index.Manifests {
		name := m.Annotations[ocispec.AnnotationRefName]
		if name == wanted || m.Annotations[images.AnnotationImageName] == wanted {
			return valid(m.Digest)
		}
		if name != "" && !slices.Contains(tags, name) {
			tags = append(tags, name)
		}
	}
	if tag == "" {
		return "", fmt.Errorf("it has %d images: name one by its tag (%s) or digest", len(index.Manifests), strings.Join(tags, ", "))
	}
	return "", fmt.Errorf("it has no image with the tag %q, but %s", tag, strings.Join(tags, ", "))
}

// valid is a digest that may be used in paths.
func valid(d digest.Digest) (digest.Digest, error) { return d, d.Validate() }
