//go:build root

package union_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/union/mnt"
)

// TestMain is also tare-union, as far as an engine starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case mnt.ServeVerb:
			err = mnt.Serve(os.Args[2:])
		case mnt.OpenVerb:
			err = mnt.Opened(os.Args[2:])
		default:
			layertest.Main(m)
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	layertest.Main(m)
}
