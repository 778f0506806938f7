//go:build root && !race

package union_test

import (
	"os"
	"testing"
)

// self is the program of the driver: this one, see TestMain.
func self(t *testing.T) string {
	t.Helper()
	p, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
