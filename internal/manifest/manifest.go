// Package manifest reads image manifests and indexes no further than it takes
// to know that every reader will see the same in them.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
)

const maxDepth = 64 // of lists and objects in a document; an index has 6

// Check refuses a document that two readers could understand in different ways
// (CVE-2021-41190), that is not what its media type says, or that is too deep
// to be read.
func Check(mediaType string, b []byte) error {
	fields, err := topFields(b)
	if err != nil {
		return err
	}
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("manifest cannot be read: %w", err)
	}
	if doc.MediaType != "" && doc.MediaType != mediaType {
		return fmt.Errorf("manifest says that its media type is %.100q, it came as %.100q", doc.MediaType, mediaType)
	}
	if slices.Contains(fields, "fslayers") {
		return fmt.Errorf("manifest of type %q has fields of Docker's old schema", mediaType)
	}
	isIndex := slices.Contains(fields, "manifests")
	isManifest := slices.Contains(fields, "config") || slices.Contains(fields, "layers")
	switch {
	case isIndex && isManifest:
		return errors.New("document is a manifest and an index at once")
	case images.IsIndexType(mediaType) && isManifest, images.IsManifestType(mediaType) && isIndex:
		return fmt.Errorf("document is not what its media type %q says", mediaType)
	}
	return nil
}

// topFields returns the names of the document's fields in lower case, which is
// how encoding/json takes them.
func topFields(b []byte) ([]string, error) {
	if b = bytes.TrimSpace(b); len(b) == 0 || b[0] != '{' {
		return nil, errors.New("manifest cannot be read: no object")
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
			return nil, fmt.Errorf("manifest cannot be read: %w", err)
		}
		switch t := t.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				if depth++; depth > maxDepth {
					return nil, fmt.Errorf("manifest is deeper than %d levels", maxDepth)
				}
				name = depth == 1
				continue
			}
			depth--
		case string:
			if depth == 1 && name {
				f := strings.ToLower(t)
				if slices.Contains(fields, f) {
					return nil, fmt.Errorf("manifest has field %.100q twice", f)
				}
				if fields = append(fields, f); len(fields) > 1000 {
					return nil, errors.New("manifest has more than 1000 fields")
				}
				name = false
				continue
			}
		}
		name = depth == 1
	}
}
