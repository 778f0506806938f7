package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

// archive is a received tar file: its members in staging. Their names are keys
// of maps and never names of files.
type archive struct {
	files  map[string]*member
	links  map[string]string
	wanted []ocispec.Platform // empty: all
}

// member is a file of the archive.
type member struct {
	path   string
	size   int64
	digest digest.Digest
	early  *unpacking // nil if it is not being unpacked yet
	absent bool       // the archive goes without it: path is in the store, once it was found
}

// maxMembers bounds an archive: images of some hundred layers have some
// thousand members.
const maxMembers = 100_000

// receive reads the archive into staging and computes digests on the way. The
// bytes are not looked at: documents at the end of the archive say what they are.
// Each member is passed to begin.
func receive(ctx context.Context, r io.Reader, stage *content.Stage, begin func(*member)) (*archive, error) {
	out, _, err := decompress(ctx, r)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	a := &archive{files: map[string]*member{}, links: map[string]string{}}
	tr := tar.NewReader(out)
	buf := make([]byte, 512<<10)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, archiveError(err)
		}
		if n >= maxMembers {
			return nil, errdefs.New(errdefs.InvalidArgument, "archive has more than %d members", maxMembers)
		}
		if err := a.add(h, tr, stage, buf, begin); err != nil {
			return nil, archiveError(err)
		}
	}
	// What follows the end must be read all the same: a client that is still
	// sending takes an early answer for an error.
	_, err = io.CopyBuffer(io.Discard, out, buf)
	return a, archiveError(err)
}

// archiveError gives errors in the bytes of the archive their kind.
func archiveError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return errdefs.New(errdefs.InvalidArgument, "invalid archive: %w", err)
	}
	return err
}

func (a *archive) add(h *tar.Header, r io.Reader, stage *content.Stage, buf []byte, begin func(*member)) error {
	name := memberName(h.Name)
	switch h.Typeflag {
	case tar.TypeSymlink:
		a.links[name] = memberName(path.Join(path.Dir(name), h.Linkname))
		delete(a.files, name)
	case tar.TypeLink:
		a.links[name] = memberName(h.Linkname)
		delete(a.files, name)
	case tar.TypeReg, tar.TypeGNUSparse:
		m, err := receiveMember(h.Size, r, stage, buf)
		if err != nil {
			return err
		}
		if old := a.files[name]; old != nil {
			_ = os.Remove(old.path)
		}
		a.files[name] = m
		begin(m)
		delete(a.links, name)
		failpoint.Hit("load/member-received")
	}
	return nil // directories, and what no image consists of
}

func memberName(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

func receiveMember(size int64, r io.Reader, stage *content.Stage, buf []byte) (*member, error) {
	f, err := stage.Create()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := newDigester()
	defer d.stop()
	n, err := io.CopyBuffer(io.MultiWriter(onlyWriter{f}, d), onlyReader{r}, buf)
	if err != nil {
		return nil, err
	}
	if n != size {
		return nil, io.ErrUnexpectedEOF
	}
	syncfs.Begin(f) // the disk works while we unpack
	return &member{path: f.Name(), size: n, digest: d.sum()}, nil
}

// onlyReader and onlyWriter keep io.Copy from taking shortcuts past the buffer.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// member finds a member by name, through the archive's links.
func (a *archive) member(name string) (*member, error) {
	at := memberName(name)
	for range 10 {
		if m := a.files[at]; m != nil {
			return m, nil
		}
		to, ok := a.links[at]
		if !ok {
			break
		}
		at = to
	}
	return nil, errdefs.New(errdefs.InvalidArgument, "invalid archive: %.200q is missing", name)
}

// document reads a small member. ok is false if there is none of that name.
func (a *archive) document(name string) (b []byte, m *member, ok bool, err error) {
	m, err = a.member(name)
	if err != nil {
		return nil, nil, false, nil
	}
	if m.size > maxDocument {
		return nil, nil, true, errdefs.New(errdefs.InvalidArgument, "invalid archive: %.200q has %d bytes, at most %d are possible", name, m.size, maxDocument)
	}
	b, err = os.ReadFile(m.path)
	return b, m, true, err
}

// blob finds a member by the digest that names it, and checks it.
func (a *archive) blob(d digest.Digest) (*member, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid archive: digest %.100q", d)
	}
	m, err := a.member("blobs/sha256/" + d.Encoded())
	if err != nil {
		return nil, err
	}
	if m.digest != d {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid archive: blob %s has digest %s", d, m.digest)
	}
	return m, nil
}

// absent reports whether the archive goes without a blob.
func (a *archive) absent(d digest.Digest) bool {
	if checkDigest(d) != nil {
		return false // blob says what is wrong with it
	}
	m, _ := a.member(blobPath(d))
	return m == nil
}

// compression tells how a member is packed.
func (m *member) compression() (compression, error) {
	f, err := os.Open(m.path)
	if err != nil {
		return plain, err
	}
	defer f.Close()
	var head [6]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return plain, err
	}
	return sniff(head[:n]), nil
}

// blank reports whether a document says nothing.
func blank(b []byte) bool {
	b = bytes.TrimSpace(b)
	return len(b) == 0 || bytes.Equal(b, []byte("null")) || bytes.Equal(b, []byte("[]"))
}

var errNoImage = fmt.Errorf("no image in it: neither manifest.json nor index.json lists one")
