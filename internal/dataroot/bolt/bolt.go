// Package bolt reads a database of bbolt that belongs to somebody else, who may
// be writing it. It takes no lock and maps no memory; whatever is in the file, it
// reads a bounded number of bytes and ends.
//
//	err := bolt.Read(file, func(root *bolt.Bucket) error { … })
//
// A file consists of pages. The first two are metas, of which the valid one with
// the higher transaction counts; it leads to the page of the root bucket. Buckets
// are B+trees of branch and leaf pages. Pages that a meta leads to are not
// written before the next transaction has committed its own meta: so what was
// read is one moment's state if the meta is still the same afterwards.
package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The format, of go.etcd.io/bbolt/internal/common. Numbers are the machine's,
// which is little-endian wherever we run.
const (
	magic   = 0xED0CDAED
	version = 2

	headerSize  = 16 // of a page: ID (8), flags (2), count (2), overflow (4)
	elementSize = 16 // of a leaf: flags, position, sizes of key and value (4 each); of a branch: position, size of key (4), page (8)
	metaSize    = 64 // magic, version, page size, flags (4 each), root (8), sequence (8), freelist, pages, transaction, checksum (8 each)
	bucketSize  = 16 // of a bucket in its parent: root page (8), sequence (8); root 0: a page follows

	branchPage = 1
	leafPage   = 2
	bucketFlag = 1 // of an element of a leaf
)

// Limits of what one Read does.
const (
	maxBytes = 1 << 30
	maxPage  = 16 << 20
	maxDepth = 32 // of one bucket's tree
	attempts = 50
)

var le = binary.LittleEndian

// ErrDamaged is the error of a file that is not what it should be.
var ErrDamaged = errors.New("the database is damaged")

// Read calls f with the database's root bucket. If a transaction is committed
// meanwhile it calls f again, which begins anew.
func Read(file io.ReaderAt, f func(root *Bucket) error) error {
	for range attempts {
		m, err := metaOf(file)
		if err != nil {
			return err
		}
		err = f(&Bucket{db: &db{file: file, pageSize: int64(m.pageSize), left: maxBytes}, page: m.root})
		if now, merr := metaOf(file); merr != nil || now == m {
			return errors.Join(err, merr)
		}
	}
	return errors.New("the database changes all the time")
}

// db is a database at one moment.
type db struct {
	file     io.ReaderAt
	pageSize int64
	left     int64 // bytes that may be read
}

// meta is what leads to everything else.
type meta struct {
	pageSize uint32
	root     uint64
	tx       uint64
}

// metaOf reads the meta that counts. The second lies a page behind the first,
// which says how large that is, unless it is damaged.
func metaOf(file io.ReaderAt) (best meta, err error) {
	err = ErrDamaged
	for _, at := range []int64{0, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		b := make([]byte, headerSize+metaSize)
		if _, rerr := file.ReadAt(b, at); rerr != nil {
			if rerr != io.EOF {
				return meta{}, rerr
			}
			break
		}
		m, ok := parseMeta(b[headerSize:])
		if ok && (at == 0 || at == int64(m.pageSize)) && (err != nil || m.tx > best.tx) {
			best, err = m, nil
		}
	}
	return best, err
}

func parseMeta(b []byte) (m meta, ok bool) {
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	if le.Uint32(b) != magic || le.Uint32(b[4:]) != version || le.Uint64(b[metaSize-8:]) != sum.Sum64() {
		return m, false
	}
	m = meta{pageSize: le.Uint32(b[8:]), root: le.Uint64(b[16:]), tx: le.Uint64(b[48:])}
	return m, m.pageSize >= 1<<10 && m.pageSize <= 64<<10
}

// page reads a page with what overflows it.
func (d *db) page(id uint64) ([]byte, error) {
	if id > 1<<40 {
		return nil, ErrDamaged
	}
	b, err := d.read(int64(id)*d.pageSize, d.pageSize)
	if err != nil {
		return nil, err
	}
	size := (int64(le.Uint32(b[12:])) + 1) * d.pageSize
	switch {
	case le.Uint64(b) != id || size > maxPage:
		return nil, ErrDamaged
	case size > d.pageSize:
		return d.read(int64(id)*d.pageSize, size)
	}
	return b, nil
}

func (d *db) read(at, size int64) ([]byte, error) {
	if err := d.count(size); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if _, err := d.file.ReadAt(b, at); err != nil {
		if err == io.EOF {
			err = ErrDamaged
		}
		return nil, err
	}
	return b, nil
}

// count counts bytes that are read or copied: elements may overlap.
func (d *db) count(n int64) error {
	if d.left -= n; d.left < 0 {
		return fmt.Errorf("%w: more than %d bytes were to be read", ErrDamaged, maxBytes)
	}
	return nil
}

// Bucket is a bucket of a database, valid until Read's function returns.
type Bucket struct {
	db     *db
	page   uint64
	inline []byte // its only page, if page is 0
}

// errFound ends a walk.
var errFound = errors.New("found")

// Bucket finds a bucket in this one, nil if there is none.
func (b *Bucket) Bucket(name string) (found *Bucket, err error) {
	err = b.Each(func(key, _ []byte, sub *Bucket) error {
		if sub != nil && string(key) == name {
			found = sub
			return errFound
		}
		return nil
	})
	if err == errFound {
		err = nil
	}
	return found, err
}

// Each calls f for each key, with its value or the bucket that it names.
func (b *Bucket) Each(f func(key, value []byte, sub *Bucket) error) error {
	if b.page == 0 {
		return b.walk(b.inline, 0, f)
	}
	p, err := b.db.page(b.page)
	if err != nil {
		return err
	}
	return b.walk(p, 0, f)
}

func (b *Bucket) walk(page []byte, depth int, f func(key, value []byte, sub *Bucket) error) error {
	if len(page) < headerSize || depth > maxDepth {
		return ErrDamaged
	}
	flags, count := le.Uint16(page[8:]), int(le.Uint16(page[10:]))
	if headerSize+count*elementSize > len(page) {
		return ErrDamaged
	}
	for i := range count {
		e := page[headerSize+i*elementSize:]
		switch flags {
		case branchPage:
			p, err := b.db.page(le.Uint64(e[8:]))
			if err == nil {
				err = b.walk(p, depth+1, f)
			}
			if err != nil {
				return err
			}
		case leafPage:
			if err := b.leaf(e, f); err != nil {
				return err
			}
		default:
			return ErrDamaged
		}
	}
	return nil
}

// leaf calls f for the element at the beginning of e.
func (b *Bucket) leaf(e []byte, f func(key, value []byte, sub *Bucket) error) error {
	flags, pos, ksize, vsize := le.Uint32(e), uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
	if pos+ksize+vsize > uint64(len(e)) {
		return ErrDamaged
	}
	if err := b.db.count(int64(ksize + vsize)); err != nil {
		return err
	}
	key, value := e[pos:pos+ksize], e[pos+ksize:pos+ksize+vsize]
	if flags&bucketFlag == 0 {
		return f(bytes.Clone(key), bytes.Clone(value), nil)
	}
	if len(value) < bucketSize {
		return ErrDamaged
	}
	return f(bytes.Clone(key), nil, &Bucket{db: b.db, page: le.Uint64(value), inline: value[bucketSize:]})
}
