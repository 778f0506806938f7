package api

// ImportEnginePath is the route that takes over what a stopped Docker has in its data
// root, which Docker does not have. The request is an ImportEngineRequest; the answer
// is as that of ImageImportEnginePath.
const ImportEnginePath = "/tare/system/import-engine"

// ImportEngineRequest names the data root.
type ImportEngineRequest struct {
	Dir    string // absolute path on the engine's host
	DryRun bool   `json:",omitempty"` // only say what would come
}
