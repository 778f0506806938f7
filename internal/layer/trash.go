package layer

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tare-engine/tare/internal/failpoint"
)

// trash is a directory of removed trees, deleted by one goroutine of its own.
type trash struct {
	dir    string
	remove func(dir string) error
	run    string // makes names differ from those of earlier runs
	next   atomic.Int64

	wake chan struct{} // holds one token when there is something to delete
	stop chan struct{}
	done sync.WaitGroup
}

func openTrash(dir string, remove func(dir string) error) (*trash, error) {
	if err := os.MkdirAll(dir, 0700); err != nil {
		return nil, err
	}
	t := &trash{
		dir:    dir,
		remove: remove,
		run:    strconv.FormatInt(time.Now().UnixNano(), 36),
		wake:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
	}
	t.wake <- struct{}{} // what an earlier run left
	t.done.Go(t.empty)
	return t, nil
}

// put renames path into the trash. What does not exist is not there already.
func (t *trash) put(path string) error {
	name := filepath.Join(t.dir, t.run+"-"+strconv.FormatInt(t.next.Add(1), 36))
	failpoint.Hit("rm/layer-trash")
	err := os.Rename(path, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return nil
}

func (t *trash) empty() {
	for {
		select {
		case <-t.stop:
			return
		case <-t.wake:
		}
		entries, err := os.ReadDir(t.dir)
		if err != nil {
			slog.Error("read trash", "error", err)
			continue
		}
		for _, e := range entries {
			select {
			case <-t.stop:
				return
			default:
			}
			// A file that cannot be deleted (immutable, say) stays until the next start.
			if err := t.delete(e); err != nil {
				slog.Warn("delete removed layer", "error", err)
			}
		}
	}
}

func (t *trash) delete(e fs.DirEntry) error {
	name := filepath.Join(t.dir, e.Name())
	if !e.IsDir() { // a link to a chain
		return os.RemoveAll(name)
	}
	return t.remove(name)
}

// close stops deleting, between two trees.
func (t *trash) close() error {
	close(t.stop)
	t.done.Wait()
	return nil
}
