package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bbolt "go.etcd.io/bbolt"
)

// made makes a database with small and large buckets and values.
func made(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(name, 0600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fill(t, db, 3)
	return name
}

func fill(t testing.TB, db *bbolt.DB, times int) {
	t.Helper()
	for round := range times {
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, n := range []int{0, 1, 3, 2000} {
				b, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "bucket %d", n))
				if err != nil {
					return err
				}
				for i := range n {
					sub, err := b.CreateBucketIfNotExists(fmt.Appendf(nil, "%05d", i))
					if err != nil {
						return err
					}
					if err := sub.Put([]byte("key"), fmt.Appendf(nil, "%d in round %d", i, round)); err != nil {
						return err
					}
				}
				if err := b.Put([]byte("large"), bytes.Repeat([]byte("x"), n*100)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ours and theirs write all that is in a database.
func ours(b *Bucket, out io.Writer) error {
	return b.Each(func(k, v []byte, sub *Bucket) error {
		fmt.Fprintf(out, "%s=%s\n", k, v)
		if sub != nil {
			return ours(sub, out)
		}
		return nil
	})
}

func theirs(b *bbolt.Bucket, out io.Writer) error {
	return b.ForEach(func(k, v []byte) error {
		fmt.Fprintf(out, "%s=%s\n", k, v)
		if v == nil {
			return theirs(b.Bucket(k), out)
		}
		return nil
	})
}

func dump(file io.ReaderAt) (string, error) {
	var out strings.Builder
	err := Read(file, func(root *Bucket) error {
		out.Reset()
		return ours(root, &out)
	})
	return out.String(), err
}

func TestReadsWhatBboltHasWritten(t *testing.T) {
	name := made(t)
	db, err := bbolt.Open(name, 0600, nil) // and holds its lock
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var want strings.Builder
	err = db.View(func(tx *bbolt.Tx) error { return theirs(tx.Cursor().Bucket(), &want) })
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := dump(f); err != nil || got != want.String() || len(got) < 100_000 {
		t.Errorf("%d bytes, want %d: %v", len(got), want.Len(), err)
	}
}

// during calls back when a page after the metas is first read.
type during struct {
	io.ReaderAt
	call func()
}

func (d *during) ReadAt(b []byte, at int64) (int, error) {
	if len(b) > headerSize+metaSize && d.call != nil {
		call := d.call
		d.call = nil
		call()
	}
	return d.ReaderAt.ReadAt(b, at)
}

// TestReadBeginsAnew when transactions are committed meanwhile.
func TestReadBeginsAnew(t *testing.T) {
	name := made(t)
	db, err := bbolt.Open(name, 0600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := dump(&during{f, func() { fill(t, db, 5) }})
	if err != nil || strings.Count(got, "in round 4") != 2004 || strings.Contains(got, "in round 2") {
		t.Errorf("%d lines of the last round, %v", strings.Count(got, "in round 4"), err)
	}
}

func TestBucketFindsOne(t *testing.T) {
	f, err := os.Open(made(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = Read(f, func(root *Bucket) error {
		b, err := root.Bucket("bucket 2000")
		if err != nil || b == nil {
			return fmt.Errorf("%v, %w", b, err)
		}
		if b, err := b.Bucket("large"); err != nil || b != nil { // a value
			return fmt.Errorf("%v, %w", b, err)
		}
		b, err = b.Bucket("01999")
		if err != nil || b == nil {
			return fmt.Errorf("%v, %w", b, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestDamage: a page that leads to itself, and files that are none.
func TestDamage(t *testing.T) {
	whole, err := os.ReadFile(made(t))
	if err != nil {
		t.Fatal(err)
	}
	circle := bytes.Clone(whole)
	page := int(le.Uint32(whole[headerSize+8:]))
	for at := 2 * page; at < len(circle); at += page {
		p := circle[at:]
		le.PutUint16(p[8:], branchPage)
		le.PutUint16(p[10:], 100)
		le.PutUint32(p[12:], 0)
		for i := range 100 {
			le.PutUint64(p[headerSize+i*elementSize+8:], uint64(at/page))
		}
		le.PutUint64(p, uint64(at/page))
	}
	for what, b := range map[string][]byte{"a circle": circle, "the beginning": whole[:4*page], "the metas": whole[:2*page], "nothing": nil, "zeros": make([]byte, 1<<16)} {
		if _, err := dump(bytes.NewReader(b)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzRead changes eight bytes of a sound database at a time, the metas'
// checksums aside: reading ends, with or without an error.
func FuzzRead(f *testing.F) {
	whole, err := os.ReadFile(made(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(8192), uint64(1)<<40|2, uint32(12288), ^uint64(0))
	f.Fuzz(func(t *testing.T, at1 uint32, v1 uint64, at2 uint32, v2 uint64) {
		b := bytes.Clone(whole)
		le.PutUint64(b[8192+at1%uint32(len(b)-8200):], v1)
		le.PutUint64(b[8192+at2%uint32(len(b)-8200):], v2)
		if _, err := dump(bytes.NewReader(b)); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
}
