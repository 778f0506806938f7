package server

import (
	"os"
	"testing"
)

// The test program is also the keeper that the tests start.
func TestMain(m *testing.M) {
	if os.Getenv("TARE_TEST_KEEPER") != "" {
		os.Exit(Main(os.Args, "test", os.Stderr))
	}
	os.Exit(m.Run())
}
