// Package spec turns what a client asks of a container into what the runtime
// is told to do.
//
//	Validate, ValidateUpdate, ValidateExec   refuse bad requests with Docker's
//	                 texts and fill in the defaults (validate*.go, default.go)
//	Of, OfExec       make the OCI runtime spec of a container, or the process
//	                 of an exec (spec.go, exec.go, and a file for each part)
//	Resources        limits, at create and at update
//	Mounts           what the user mounted, as inspect shows it
//
// It knows requests, the host and the container's root, and no container that
// exists: what a spec takes from other containers comes in as Input.
//
// A new option of run is a check in validate*.go, a default if it has one, and
// a few lines in the file of its part.
package spec
