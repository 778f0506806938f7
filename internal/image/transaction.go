package image

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// transaction is a change of names and pins that is made whole or not at all.
type transaction struct {
	db   *database
	ctx  context.Context // of this transaction: containerd's stores take it from there
	bolt *bolt.Tx
}

// add points a reference at an image. The images of other platforms that the
// reference had by the same index stay beside it.
func (tx *transaction) add(ref string, n name) error {
	record, err := tx.db.store.Get(tx.ctx, ref)
	if err != nil {
		return tx.set(ref, n)
	}
	old, err := nameIn(record)
	if err != nil || !n.indexed() || old.target.Digest != n.target.Digest {
		return tx.set(ref, n)
	}
	all := n.all()
	for _, e := range old.all() {
		if !n.has(e) {
			all = append(all, e)
		}
	}
	return tx.set(ref, tx.db.arrange(tx.ctx, n, all))
}

// set points a reference at an image and the others that n has. Images that it
// pointed at become dangling if that was their last name; those that were dangling
// are so no more.
func (tx *transaction) set(ref string, n name) error {
	record, err := recordOf(ref, n)
	if err != nil {
		return err
	}
	old, err := tx.db.store.Get(tx.ctx, ref)
	if err != nil {
		if _, err := tx.db.store.Create(tx.ctx, record); err != nil {
			return err
		}
	} else if _, err := tx.db.store.Update(tx.ctx, record); err != nil {
		return err
	}
	if err == nil {
		if was, err := nameIn(old); err == nil && n.lacks(was) {
			if err := tx.dangle(was); err != nil {
				return err
			}
		}
	}
	if strings.HasPrefix(ref, danglingPrefix) {
		return nil
	}
	for _, e := range n.all() {
		if _, err := tx.db.store.Get(tx.ctx, danglingPrefix+string(e.id)); err == nil {
			if err := tx.db.store.Delete(tx.ctx, danglingPrefix+string(e.id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// dangle keeps the images that have lost a name. One that dangles already gets
// what the same index has of it besides.
func (tx *transaction) dangle(n name) error {
	list, err := tx.db.store.List(tx.ctx)
	if err != nil {
		return err
	}
	named, dangling := map[ID]bool{}, map[ID]digest.Digest{}
	for _, i := range list {
		if n, err := nameIn(i); err == nil {
			for _, e := range n.all() {
				named[e.id] = true
			}
			if strings.HasPrefix(i.Name, danglingPrefix) {
				dangling[n.id] = n.target.Digest
			}
		}
	}
	for _, e := range n.all() {
		if named[e.id] && !(n.indexed() && dangling[e.id] == n.target.Digest) {
			continue
		}
		alone, _ := n.of(e.id)
		if err := tx.add(danglingPrefix+string(e.id), alone); err != nil {
			return err
		}
	}
	return nil
}

// take takes a reference away from an image: it goes, or stands for the images of
// other platforms that it has.
func (tx *transaction) take(ref string, id ID) error {
	record, err := tx.db.store.Get(tx.ctx, ref)
	if err != nil {
		return err
	}
	n, err := nameIn(record)
	if err != nil {
		return tx.db.store.Delete(tx.ctx, ref)
	}
	rest := slices.DeleteFunc(n.all(), func(e entry) bool { return e.id == id })
	if len(rest) == 0 {
		return tx.db.store.Delete(tx.ctx, ref)
	}
	if record, err = recordOf(ref, tx.db.arrange(tx.ctx, n, rest)); err != nil {
		return err
	}
	_, err = tx.db.store.Update(tx.ctx, record)
	return err
}

// pin keeps an image from going, or takes that back.
func (tx *transaction) pin(id ID, on bool) error {
	b, err := tx.bolt.CreateBucketIfNotExists(bucketPins)
	if err != nil {
		return err
	}
	if !on {
		return b.Delete([]byte(id))
	}
	return b.Put([]byte(id), []byte{1})
}
