//go:build root && race

package union_test

import (
	"path/filepath"
	"testing"
)

// self is the program of the driver. This one is built with cgo, and cannot give up
// the rights of all its threads; make build makes the one that is used.
func self(t *testing.T) string {
	t.Helper()
	p, err := filepath.Abs("../../../bin/tare-union")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
