//go:build root

package script

import (
	"path/filepath"
	"testing"
)

// TestBuilds runs the sessions of builds that ask for more than docker's command line
// alone has, one engine for all: build.txtar empties the cache.
func TestBuilds(t *testing.T) {
	files, err := filepath.Glob("testdata/build/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	e := startTaredIn(t, workdir(t), "--build-cache-cap", "3GB")
	run(t, e, filepath.Join(programs(t), "tare"), files)
}
