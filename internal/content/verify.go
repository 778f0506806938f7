package content

import (
	"context"
	"crypto/sha256"
	"io"

	"github.com/opencontainers/go-digest"
)

// Sound reads a blob and reports whether its digest is right. One that is not
// there is NotFound.
func (s *Store) Sound(ctx context.Context, d digest.Digest) (bool, error) {
	if _, err := s.Size(d); err != nil {
		return false, err
	}
	f, err := s.Open(d)
	if err != nil {
		return false, err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 512<<10)
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return digest.NewDigest(digest.SHA256, h) == d, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// Replace puts what write writes into the place of the blob d, in one step, if
// that is its digest; ok is false if it is not. It is on disk then.
func (s *Store) Replace(d digest.Digest, write func(io.Writer) error) (ok bool, err error) {
	if err := check(d); err != nil {
		return false, err
	}
	st, err := s.NewStage()
	if err != nil {
		return false, err
	}
	defer st.Close()
	f, err := st.Create()
	if err != nil {
		return false, err
	}
	defer f.Close()
	h := sha256.New()
	if err := write(io.MultiWriter(f, h)); err != nil {
		return false, err
	}
	if digest.NewDigest(digest.SHA256, h) != d {
		return false, nil
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	if err := st.Add(d, f.Name()); err != nil {
		return false, err
	}
	return true, st.Publish()
}
