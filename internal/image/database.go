package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// database is images.db: names in containerd's schema, and pins. It knows nothing
// of what images consist of. Who reads takes the view.
type database struct {
	bolt  *bolt.DB
	store images.Store // over bolt
	view  atomic.Pointer[view]
	// arrange makes n the name of these images: which one it stands for on this
	// machine, the database cannot say.
	arrange func(ctx context.Context, n name, all []entry) name
}

const namespace = "tare"

// bucketPins has the IDs of pinned images.
var bucketPins = []byte("tare.pins")

// openDatabase opens the file, or makes it. One that is damaged is set aside. The
// blobs are those that names lead to.
func openDatabase(ctx context.Context, path string, blobs content.Store, arrange func(context.Context, name, []entry) name) (_ *database, damaged bool, err error) {
	d := &database{arrange: arrange}
	if d.bolt, damaged, err = openDB(path); err != nil {
		return nil, false, err
	}
	m := metadata.NewDB(d.bolt, blobs, nil)
	if err := m.Init(ctx); err != nil {
		return nil, false, errors.Join(fmt.Errorf("images.db: %w", err), d.close())
	}
	d.store = metadata.NewImageStore(m)
	return d, damaged, nil
}

func (d *database) close() error { return d.bolt.Close() }

// openDB opens the database; one that is damaged is renamed and replaced.
func openDB(path string) (db *bolt.DB, damaged bool, err error) {
	o := &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType}
	db, err = tryDB(path, o)
	if err == nil {
		return db, false, nil
	}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, bolterrors.ErrTimeout) {
		return nil, false, fmt.Errorf("open %s: %w", path, err)
	}
	aside := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	slog.Error("images.db is damaged; set aside", "error", err, "as", aside)
	if err := os.Rename(path, aside); err != nil {
		return nil, false, err
	}
	db, err = tryDB(path, o)
	return db, true, err
}

// tryDB opens the database and reads all of it: bbolt panics on some damage.
func tryDB(path string, o *bolt.Options) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			if db != nil {
				_ = db.Close()
			}
			db, err = nil, fmt.Errorf("%v", r)
		}
	}()
	if info, e := os.Stat(path); e == nil && info.Size() == 0 {
		return nil, errors.New("the file is empty")
	}
	db, err = bolt.Open(path, 0600, o)
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bolt.Tx) error {
		for e := range tx.Check() {
			err = errors.Join(err, e)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// inDB is the context that containerd's stores want.
func inDB(ctx context.Context) context.Context { return namespaces.WithNamespace(ctx, namespace) }

// update runs f in one transaction, then publishes the new view. It ignores
// that the client leaves. Preconditions: the change token is held.
func (d *database) update(ctx context.Context, f func(*transaction) error) error {
	ctx = inDB(context.WithoutCancel(ctx))
	err := d.bolt.Update(func(tx *bolt.Tx) error { return f(&transaction{d, boltutil.WithTransaction(ctx, tx), tx}) })
	return errors.Join(err, d.refresh(ctx))
}

// refresh reads images.db anew.
func (d *database) refresh(ctx context.Context) error {
	list, err := d.store.List(inDB(ctx))
	if err != nil {
		return fmt.Errorf("images.db: %w", err)
	}
	v := &view{names: map[string]name{}, byID: map[ID][]string{}}
	if v.pins, err = d.pins(); err != nil {
		return fmt.Errorf("images.db: %w", err)
	}
	for _, i := range list {
		n, err := nameIn(i)
		if err != nil {
			slog.Warn("images.db has a name that leads nowhere", "name", i.Name, "error", err)
			continue
		}
		v.names[i.Name] = n
		for _, e := range n.all() {
			if names := v.byID[e.id]; len(names) == 0 || names[len(names)-1] != i.Name {
				v.byID[e.id] = append(names, i.Name)
			}
		}
	}
	for _, names := range v.byID {
		slices.Sort(names)
	}
	d.view.Store(v)
	return nil
}

// pins reads which images are pinned.
func (d *database) pins() (map[ID]bool, error) {
	pins := map[ID]bool{}
	err := d.bolt.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketPins)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, _ []byte) error {
			pins[ID(k)] = true
			return nil
		})
	})
	return pins, err
}
