package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	cerrdefs "github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const maxDepth = 64 // of lists and objects in a document; an index has 6

// readManifest fetches a document and compares it with its descriptor.
func readManifest(ctx context.Context, f remotes.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	rc, err := f.Fetch(ctx, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, d.Size+1))
	switch {
	case cerrdefs.IsFailedPrecondition(err):
		return nil, corrupt("manifest %s has more bytes than the %d its descriptor says", d.Digest, d.Size)
	case err != nil:
		return nil, err
	case int64(len(b)) != d.Size:
		return nil, corrupt("manifest %s has %d bytes, its descriptor says %d", d.Digest, len(b), d.Size)
	case d.Digest.Algorithm().FromBytes(b) != d.Digest:
		return nil, corrupt("manifest verification failed for digest %s", d.Digest)
	}
	return b, nil
}

// checkDocument refuses a document that two readers could understand in
// different ways (CVE-2021-41190), or that is too deep to be read.
func checkDocument(mediaType string, b []byte) error {
	fields, err := topFields(b)
	if err != nil {
		return err
	}
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return corrupt("manifest cannot be read: %v", err)
	}
	if doc.MediaType != "" && doc.MediaType != mediaType {
		return corrupt("manifest says that its media type is %q, the registry says %q", doc.MediaType, mediaType)
	}
	if slices.Contains(fields, "fslayers") {
		return corrupt("manifest of type %q has fields of Docker's old schema", mediaType)
	}
	isIndex := slices.Contains(fields, "manifests")
	isManifest := slices.Contains(fields, "config") || slices.Contains(fields, "layers")
	switch {
	case isIndex && isManifest:
		return corrupt("document is a manifest and an index at once")
	case images.IsIndexType(mediaType) && isManifest, images.IsManifestType(mediaType) && isIndex:
		return corrupt("document is not what its media type %q says", mediaType)
	}
	return nil
}

// topFields returns the names of the document's fields in lower case, which is
// how encoding/json takes them.
func topFields(b []byte) ([]string, error) {
	if b = bytes.TrimSpace(b); len(b) == 0 || b[0] != '{' {
		return nil, corrupt("manifest cannot be read: no object")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	var fields []string
	depth, name := 0, false
	for {
		t, err := dec.Token()
		if err == io.EOF && depth == 0 {
			return fields, nil
		}
		if err != nil {
			return nil, corrupt("manifest cannot be read: %v", err)
		}
		switch t := t.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				if depth++; depth > maxDepth {
					return nil, corrupt("manifest is deeper than %d levels", maxDepth)
				}
				name = depth == 1
				continue
			}
			depth--
		case string:
			if depth == 1 && name {
				f := strings.ToLower(t)
				if slices.Contains(fields, f) {
					return nil, corrupt("manifest has field %q twice", f)
				}
				if fields = append(fields, f); len(fields) > 1000 {
					return nil, corrupt("manifest has more than 1000 fields")
				}
				name = false
				continue
			}
		}
		name = depth == 1
	}
}
