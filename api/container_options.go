package api

// OptionsPath is the route that changes options that Docker does not have of a container,
// also while it runs: POST with an OptionsChange.
const OptionsPath = "/tare/containers/options"

// OptionsChange says which options a container has from now on. All of it happens, or
// nothing. Those that it does not name stay.
type OptionsChange struct {
	Container string
	Options   map[string]string // by annotation; of those of ExtensionTable that are Live
}
