//go:build root

package script

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestBuildCacheStaysInBounds builds one thing after the other, each with a step that takes
// much, and looks at the disk meanwhile: the cache is never over its cap by more than
// the step that runs. TARE_BUILDS says how many; 50 in `make soak`.
func TestBuildCacheStaysInBounds(t *testing.T) {
	const megabyte, bound, step = 1 << 20, 100, 30
	builds := 5
	if s := os.Getenv("TARE_BUILDS"); s != "" {
		var err error
		if builds, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := workdir(t)
	e := startTaredIn(t, dir, "--build-cache-cap", fmt.Sprint(bound, "MB"))
	e.docker = filepath.Join(programs(t), "tare")
	e.load(t, "busybox.tar")
	context := filepath.Join(dir, "context")
	if err := os.Mkdir(context, 0o700); err != nil {
		t.Fatal(err)
	}
	var most atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				if n := takenBelow(filepath.Join(dir, "data", "build")); n > most.Load() {
					most.Store(n)
				}
			}
		}
	}()
	for n := range builds {
		text := fmt.Sprintf("FROM busybox AS big\nRUN head -c %d /dev/urandom >/big; echo %d >/small\nFROM busybox\nCOPY --from=big /small /\n", step*megabyte, n)
		if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		e.output(t, "build", "-q", "-t", "capped", context)
	}
	close(stop)
	<-stopped
	// Beside snapshots the cache has its databases, and what the images are made of.
	const rest = 15
	if got := most.Load() / megabyte; got > bound+step+rest {
		t.Errorf("%d builds took %d MB, the cap is %d MB and a step takes %d", builds, got, bound, step)
	} else if got < bound {
		t.Errorf("%d builds took %d MB: they were to come to the cap of %d MB", builds, got, bound)
	}
}

// takenBelow is how many bytes of the disk a directory takes. What goes meanwhile
// counts for nothing.
func takenBelow(dir string) (bytes int64) {
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[st.Ino] {
			seen[st.Ino] = true
			bytes += st.Blocks * 512
		}
		return nil
	})
	return bytes
}
