// Package oci is the life of a container as the OCI runtime specification
// tells it, for a command line that ends after each command: what is known of a
// container between two commands lies in files, and the container's first
// process waits at a FIFO from "create" to "start".
//
//	ROOT/ID/
//	  state.json    the record: pid and its start time, cgroup, bundle
//	  config.json   the bundle's, as it was at create
//	  exec.fifo     there: created, not started yet
//
// ROOT belongs on a tmpfs. Whoever changes a container holds an flock on its
// directory. A creator that is killed leaves a directory whose lock is free,
// and perhaps a cgroup: Delete removes both. The process itself ends with its
// creator unless the record with its pid is written.
package oci
