//go:build !failpoint

package failpoint

// Enabled reports whether this build has failpoints.
const Enabled = false

// Hit marks a place; see the package comment.
func Hit(string) {}

// Err marks a place that can fail.
func Err(string) error { return nil }
