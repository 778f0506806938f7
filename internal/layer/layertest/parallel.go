package layertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/layer"
)

// Workers of testAllAtOnce, and what each does how often.
const (
	workers = 8
	rounds  = 12
)

// testAllAtOnce applies, prepares, mounts, writes, measures and removes from many
// goroutines on layers that they share. In the end nothing is left.
func testAllAtOnce(t *testing.T, s *site) {
	var tars [3][]byte
	for i := range tars {
		tars[i] = Tar(t, File{Name: "all", Data: fmt.Sprint(i)}, File{Name: fmt.Sprintf("l%d/", i)}, File{Name: fmt.Sprintf("l%d/f", i), Data: "x"})
	}
	var done sync.WaitGroup
	failed := make(chan error, workers)
	for w := range workers {
		done.Go(func() {
			for i := range rounds {
				if err := s.life(fmt.Sprintf("c%d-%d", w, i), tars[:1+(w+i)%len(tars)]); err != nil {
					failed <- fmt.Errorf("worker %d, round %d: %w", w, i, err)
					return
				}
			}
		})
	}
	done.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	if left := s.Containers(); len(left) > 0 {
		t.Errorf("containers left: %v", left)
	}
	if err := s.Prune(nil); err != nil {
		t.Error(err)
	}
	s.nothingStaged(t)
	s.empty(t, filepath.Join(s.root, "containers"))
	s.empty(t, filepath.Join(s.root, "trash"))
}

// empty waits until a directory is empty.
func (s *site) empty(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left, err := os.ReadDir(dir)
		if err == nil && len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left in %s: %v, %v", dir, left, err)
		}
	}
}

// life is that of one container. Its chain may be removed by others at any time
// before the container stands on it: then it is applied again.
func (s *site) life(id string, tars [][]byte) (err error) {
	ctx := context.Background()
	for try := 0; ; try++ {
		chain, err := s.applyAll(tars)
		if err == nil {
			err = s.Prepare(ctx, id, chain, layer.Options{Volatile: try%2 == 1})
		}
		if err == nil {
			defer func() { _ = s.RemoveChain(chain) }()
			break
		}
		if try > 200 {
			return err
		}
	}
	m, err := s.Mount(ctx, id, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	root := fmt.Sprintf("/proc/self/fd/%d", m.Fd())
	got, err := os.ReadFile(root + "/all")
	if want := fmt.Sprint(len(tars) - 1); err != nil || string(got) != want {
		return fmt.Errorf("all has %q, want %q: %w", got, want, err)
	}
	if err := errors.Join(os.WriteFile(root+"/new", []byte(id), 0o600), os.Remove(root+"/all")); err != nil {
		return err
	}
	list, err := s.Changes(ctx, id, nil)
	if err != nil || len(list) != 2 {
		return fmt.Errorf("changes %v: %w", list, err)
	}
	_, err = s.Usage(ctx, id)
	return errors.Join(err, s.Diff(ctx, id, nil, io.Discard), s.Remove(ctx, id))
}

func (s *site) applyAll(tars [][]byte) (chain layer.ChainID, err error) {
	for _, b := range tars {
		if chain, err = s.Apply(context.Background(), chain, digest.FromBytes(b), bytes.NewReader(b)); err != nil {
			return "", err
		}
	}
	return chain, nil
}
