package api

// ImageImportEnginePath is the route that takes images from the data root of
// another engine, which Docker does not have. The request is an
// ImageImportEngineRequest; the answer is a stream of progress messages like a
// pull's. What goes wrong before the first is an ordinary error answer, what
// comes later ends the stream with an error.
const ImageImportEnginePath = "/tare/images/import-engine"

// ImageImportEngineRequest names the images.
type ImageImportEngineRequest struct {
	Dir        string   // absolute path on the engine's host
	Images     []string // references or IDs there; empty: all
	Namespaces []string `json:",omitempty"` // of containerd; empty: default, moby, k8s.io
	DryRun     bool     `json:",omitempty"` // only say what would come
}
