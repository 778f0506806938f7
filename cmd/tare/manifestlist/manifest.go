// Package manifestlist has the manifest lists that a user is making: indexes
// that are not pushed yet. They lie where docker's command line has them, in
// its format, so either may go on with what the other began:
//
//	~/.docker/manifests/          the Store
//	  localhost_app-1/            a list, by its reference: ":" is "-", "/" is "_"
//	    localhost_app-amd64       a Manifest in it, by its own
//
// Others write there too, so nothing is believed: names stay below the
// directory, sizes have bounds, and a manifest has the digest it says.
package manifestlist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

// DockerList is the media type of Docker's manifest lists.
const DockerList = "application/vnd.docker.distribution.manifest.list.v2+json"

// Manifest is an image's manifest with what a list says of it. Its JSON is
// docker's: what is shown, and what is in the files.
type Manifest struct {
	Ref        string             // where it came from, in full
	Descriptor ocispec.Descriptor // with its platform
	Raw        []byte             `json:",omitempty"` // its bytes; docker before 23 did not keep them

	// One of these has the document once more, for the eye.
	SchemaV2Manifest json.RawMessage `json:",omitempty"`
	OCIManifest      json.RawMessage `json:",omitempty"`
}

// New makes a manifest of what a registry has.
func New(ref string, at ocispec.Descriptor, raw []byte) (Manifest, error) {
	m := Manifest{Ref: ref, Descriptor: at, Raw: raw}
	document, err := m.document()
	if err == nil {
		*document = raw
		err = m.check()
	}
	return m, err
}

// document is the field for the document.
func (m *Manifest) document() (*json.RawMessage, error) {
	switch m.Descriptor.MediaType {
	case dockerManifest:
		return &m.SchemaV2Manifest, nil
	case ocispec.MediaTypeImageManifest:
		return &m.OCIManifest, nil
	}
	return nil, fmt.Errorf("media type %.100q is none of an image's manifest", m.Descriptor.MediaType)
}

// check refuses a manifest that is not what it says.
func (m *Manifest) check() error {
	document, err := m.document()
	if err != nil {
		return err
	}
	if (len(m.SchemaV2Manifest) == 0) == (len(m.OCIManifest) == 0) || len(*document) == 0 {
		return errors.New("there has to be one document, of the descriptor's media type")
	}
	at := m.Descriptor
	if err := at.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %.100q: %w", at.Digest, err)
	}
	if len(m.Raw) == 0 {
		return nil // Payload will see
	}
	if got := at.Digest.Algorithm().FromBytes(m.Raw); got != at.Digest || at.Size != int64(len(m.Raw)) {
		return fmt.Errorf("internal digest mismatch for %s: expected %s, got %s", m.Ref, at.Digest, got)
	}
	// What is seen is to be what is pushed.
	same, err := equal(m.Raw, *document)
	if err == nil && !same {
		err = errors.New("the document is another one")
	}
	if err != nil {
		return fmt.Errorf("digest %s: %w", at.Digest, err)
	}
	return nil
}

// equal compares two documents as they are written in a file.
func equal(a, b []byte) (bool, error) {
	one, err := json.Marshal(json.RawMessage(a))
	if err != nil {
		return false, err
	}
	other, err := json.Marshal(json.RawMessage(b))
	return bytes.Equal(one, other), err
}

// Document is the document for the eye.
func (m Manifest) Document() []byte {
	if len(m.SchemaV2Manifest) > 0 {
		return m.SchemaV2Manifest
	}
	return m.OCIManifest
}

// Payload is the manifest with the bytes that its digest is of.
func (m Manifest) Payload() ([]byte, error) {
	if len(m.Raw) > 0 {
		return m.Raw, nil
	}
	indent := "  " // by those who make OCI manifests
	if len(m.SchemaV2Manifest) > 0 {
		indent = "   "
	}
	b, err := json.MarshalIndent(json.RawMessage(m.Document()), "", indent)
	if err != nil {
		return nil, err
	}
	if want, got := m.Descriptor.Digest, m.Descriptor.Digest.Algorithm().FromBytes(b); got != want {
		return nil, fmt.Errorf("internal digest mismatch for %s: expected %s, got %s", m.Ref, want, got)
	}
	return b, nil
}

// index is a list as registries have it; entry a manifest in it. Their fields
// are in docker's order.
type index struct {
	SchemaVersion int     `json:"schemaVersion"`
	MediaType     string  `json:"mediaType"`
	Manifests     []entry `json:"manifests"`
}

type entry struct {
	MediaType string           `json:"mediaType,omitempty"`
	Size      int64            `json:"size,omitempty"`
	Digest    digest.Digest    `json:"digest,omitempty"`
	Platform  ocispec.Platform `json:"platform"`
}

// Index makes the document of a list: an index if its first manifest is one of
// OCI, else Docker's manifest list.
func Index(ref string, list []Manifest) (mediaType string, raw []byte, err error) {
	doc := index{SchemaVersion: 2, MediaType: DockerList, Manifests: []entry{}}
	if len(list) > 0 && strings.HasPrefix(list[0].Descriptor.MediaType, "application/vnd.oci.") {
		doc.MediaType = ocispec.MediaTypeImageIndex
	}
	for _, m := range list {
		if a, b := registryOf(m.Ref), registryOf(ref); a != b {
			return "", nil, fmt.Errorf("cannot use source images from a different registry than the target image: %s != %s", a, b)
		}
		at := m.Descriptor
		e := entry{MediaType: at.MediaType, Size: at.Size, Digest: at.Digest}
		if p := at.Platform; p != nil {
			e.Platform = *p
		}
		doc.Manifests = append(doc.Manifests, e)
	}
	raw, err = json.MarshalIndent(doc, "", "   ")
	return doc.MediaType, raw, err
}

// registryOf is the registry of a reference in full.
func registryOf(ref string) string {
	name, _, _ := strings.Cut(ref, "/")
	return name
}
