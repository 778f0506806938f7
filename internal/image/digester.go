package image

import (
	"crypto/sha256"
	"hash"

	"github.com/opencontainers/go-digest"
)

// digester computes a SHA-256 digest beside the work of its writer.
type digester struct {
	full, free chan []byte
	done       chan struct{}
	hash       hash.Hash
	n          int64
}

const (
	digesterBuffers = 4
	digesterBuffer  = 256 << 10
)

// newDigester starts the computation, which ends with sum or stop.
func newDigester() *digester {
	d := &digester{
		full: make(chan []byte, digesterBuffers),
		free: make(chan []byte, digesterBuffers),
		done: make(chan struct{}),
		hash: sha256.New(),
	}
	for range digesterBuffers {
		d.free <- nil
	}
	go d.work(d.full)
	return d
}

func (d *digester) work(full <-chan []byte) {
	defer close(d.done)
	for b := range full {
		d.hash.Write(b)
		d.free <- b
	}
}

// Write takes a copy of b; it waits while the computation is far behind.
func (d *digester) Write(b []byte) (int, error) {
	total := len(b)
	for len(b) > 0 {
		buf := <-d.free
		if cap(buf) == 0 {
			buf = make([]byte, digesterBuffer)
		}
		n := copy(buf[:digesterBuffer], b)
		d.full <- buf[:n]
		b = b[n:]
	}
	d.n += int64(total)
	return total, nil
}

// sum ends the computation and returns the digest of all that was written.
func (d *digester) sum() digest.Digest {
	d.stop()
	return digest.NewDigest(digest.SHA256, d.hash)
}

// stop ends the computation. Nothing may be written afterwards.
func (d *digester) stop() {
	if d.full != nil {
		close(d.full)
		d.full = nil
	}
	<-d.done
}
