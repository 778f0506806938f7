package api

import (
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ManifestPath is the route of manifests and indexes in registries, which Docker
// does not have: its command line asks registries itself. GET with the
// parameters of ManifestOptions answers with a RegistryManifest. POST with a
// ManifestPush answers with progress like a push's, whose messages have a
// status only: a line for each manifest that was put beside the index, then the
// digest of the index. Both take credentials as a pull does.
const ManifestPath = "/tare/manifest"

// ManifestOptions say what is read from a registry.
type ManifestOptions struct {
	Ref      string
	Insecure bool // an unknown certificate or plain HTTP will do, for this request
	Platform bool // of an image's manifest: read in its configuration what it is made for
	Members  bool // of an index: read its manifests too
	Auth     *registry.AuthConfig
}

// RegistryManifest is a manifest or an index of a registry.
type RegistryManifest struct {
	Ref        string             // in full
	Descriptor ocispec.Descriptor // with a platform as far as it was asked for
	Raw        []byte
	Manifests  []RegistryManifest `json:",omitempty"` // of an index, with the platforms it says
}

// ManifestPush is an index that is to be in a repository.
type ManifestPush struct {
	Index    RegistryManifest // Ref is where it goes; Manifests are all of its own, with the references they came from
	Insecure bool
}
