// Package failpoint names the places where a crash is tested.
//
//	failpoint.Hit("create/record-written")
//
// does nothing in an ordinary build. Built with the tag "failpoint", a process
// whose environment has
//
//	TARE_FAILPOINTS=create/record-written=kill;start/cgroup=error;load/synced=2*sleep(50)
//
// kills itself (SIGKILL), gets an error or sleeps (milliseconds) there; N*
// skips the first N-1 hits. Names are operation/step. With
// TARE_FAILPOINTS_LOG=FILE each name that is hit is appended to the file, which
// is how test/crash learns which points an operation passes. A point whose name
// stands in TARE_FAILPOINTS_FILE=FILE kills the process that comes there first,
// once: a test arms a running engine and its keeper so.
package failpoint
