package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
)

// annotationSince of an archive's index.json says which images the loader must
// have, for the archive goes without layers that they have: `NAME:TAG@DIGEST` or
// `DIGEST` of what each name stands for, with spaces between them.
const annotationSince = "tare.since"

// Omission is what an archive goes without: layers that its loader has.
type Omission struct {
	layers map[digest.Digest]bool
	since  []string // annotationSince, sorted
}

// has reports whether a blob is left out.
func (o Omission) has(b savedBlob) bool { return b.layer && o.layers[b.digest] }

// Omit makes the omission of layers from an archive of list: those of the images
// since, and those whose blobs have the digests known.
func (s *Service) Omit(ctx context.Context, list []*Saved, since []string, known []digest.Digest) (Omission, error) {
	o := Omission{layers: map[digest.Digest]bool{}}
	for _, d := range known {
		if err := checkDigest(d); err != nil {
			return o, err
		}
		o.layers[d] = true
	}
	wanted := map[digest.Digest]bool{}
	for _, sv := range list {
		for _, b := range sv.blobs {
			wanted[b.digest] = true
		}
	}
	v := s.db.view.Load()
	for _, ref := range since {
		if err := s.omitImage(ctx, v, ref, wanted, &o); err != nil {
			return o, err
		}
	}
	slices.Sort(o.since)
	o.since = slices.Compact(o.since)
	return o, nil
}

// omitImage adds the layers of an image, for all platforms that the reference has.
// It is not noted if it has none that is wanted: the archive can do without it.
func (s *Service) omitImage(ctx context.Context, v *view, ref string, wanted map[digest.Digest]bool, o *Omission) error {
	f, err := v.find(ref)
	if err != nil {
		return err
	}
	for _, id := range f.all() {
		n := v.nameOf(f.one(id))
		helps := false
		for _, e := range n.all() {
			m, err := s.manifestOf(ctx, e.id, e.manifest.Digest)
			if err != nil {
				return err
			}
			for _, d := range m.Layers {
				o.layers[d.Digest] = true
				helps = helps || wanted[d.Digest]
			}
		}
		if helps {
			o.since = append(o.since, sinceOf(f.ref, n.target.Digest))
		}
	}
	return nil
}

// sinceOf is one of annotationSince: a name, "" if there is none, and what it stands for.
func sinceOf(ref string, target digest.Digest) string {
	switch {
	case ref == "":
		return target.String()
	case strings.Contains(ref, "@"):
		return familiar(ref)
	}
	return familiar(ref) + "@" + target.String()
}

// Blob is the blob of a layer.
type Blob struct {
	Digest digest.Digest
	DiffID layer.DiffID
	Size   int64 // bytes, as it is packed
}

// Layers returns the blobs of the image's layers, base first, and again for each
// further manifest that goes with it.
func (sv *Saved) Layers() (list []Blob) {
	for _, m := range sv.manifests {
		for i, d := range m.Layers {
			list = append(list, Blob{d.Digest, sv.Image.Layers[i], d.Size})
		}
	}
	return list
}

// Names are the names with which the image goes into the archive, familiar.
func (sv *Saved) Names() []string {
	list := make([]string, len(sv.names))
	for i, n := range sv.names {
		list[i] = familiar(n)
	}
	return list
}

// Missing returns which of the blobs an archive that is to be loaded must bring:
// each once, in their order.
func (s *Service) Missing(ctx context.Context, list []Blob) ([]digest.Digest, error) {
	known := newKnownLayers(s)
	asked := map[digest.Digest]bool{}
	var missing []digest.Digest
	for _, b := range list {
		if err := cmp.Or(checkDigest(b.Digest), checkDigest(b.DiffID)); err != nil {
			return nil, err
		}
		if asked[b.Digest] {
			continue
		}
		asked[b.Digest] = true
		if known.stored(b) {
			continue
		}
		if _, ok := known.packed(ctx, b); !ok {
			missing = append(missing, b.Digest)
		}
	}
	return missing, nil
}

// find takes the layers that the archive goes without from the store.
func (l *load) find(ctx context.Context, list []*candidate) error {
	for _, c := range list {
		var missing []digest.Digest
		for i, m := range c.layers {
			if !m.absent {
				continue
			}
			ok, err := l.findLayer(ctx, m, c.parts.config.RootFS.DiffIDs[i])
			if err != nil {
				return err
			}
			if !ok && !slices.Contains(missing, m.digest) {
				missing = append(missing, m.digest)
			}
		}
		if len(missing) > 0 {
			return c.lacks(missing, l.since)
		}
	}
	failpoint.Hit("load/found")
	return nil
}

// findLayer sets the path of a layer's blob: in the store, or in staging, where
// it is made of another blob that holds the same packed.
func (l *load) findLayer(ctx context.Context, m *member, diff layer.DiffID) (bool, error) {
	b := Blob{m.digest, diff, m.size}
	if l.known.stored(b) {
		l.taken = append(l.taken, b)
		m.path = l.s.content.Path(m.digest)
		return true, nil
	}
	if m.path = l.made[m.digest]; m.path != "" {
		return true, nil
	}
	from, ok := l.known.packed(ctx, b)
	if !ok {
		return false, nil
	}
	l.taken = append(l.taken, from)
	path, err := l.unpackBlob(ctx, from.Digest, b)
	if err != nil {
		return false, fmt.Errorf("layer %s: unpack blob %s: %w", b.Digest, from.Digest, err)
	}
	m.path, l.made[m.digest] = path, path
	return true, nil
}

// unpackBlob makes the blob b in staging.
func (l *load) unpackBlob(ctx context.Context, from digest.Digest, b Blob) (path string, err error) {
	in, err := l.s.content.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := l.stage.Create()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	var n int64
	var got digest.Digest
	err = unpackPacked(ctx, in, func(r io.Reader) (err error) {
		n, err = io.Copy(onlyWriter{out}, io.LimitReader(r, b.Size))
		return err
	}, &got)
	if err == nil && (n != b.Size || got != b.Digest) {
		err = errdefs.New(errdefs.InvalidArgument, "it becomes %s, with %d bytes of the %d that are wanted", got, n, b.Size)
	}
	return out.Name(), err
}

// lacks is the error of an image whose layers are nowhere.
func (c *candidate) lacks(missing []digest.Digest, since []string) error {
	const shown = 3
	var layers []string
	for _, d := range missing[:min(shown, len(missing))] {
		layers = append(layers, d.String())
	}
	if more := len(missing) - shown; more > 0 {
		layers = append(layers, fmt.Sprintf("%d more", more))
	}
	advice := "save the whole image"
	if len(since) > 0 {
		advice = fmt.Sprintf("it was saved --since %s: load or pull that first, or save the whole image", strings.Join(since, ", "))
	}
	return errdefs.New(errdefs.NotFound, "image %s cannot be loaded: the archive goes without layers that are not here either (%s); %s",
		c.familiar(), strings.Join(layers, ", "), advice)
}

// since reads which images an archive builds on, as far as it says so.
func (a *archive) since() []string {
	b, _, ok, err := a.document("index.json")
	if !ok || err != nil {
		return nil
	}
	var index struct{ Annotations map[string]string }
	if json.Unmarshal(b, &index) != nil {
		return nil
	}
	const most = 10 // more are no help to a reader
	var list []string
	for word := range strings.FieldsSeq(index.Annotations[annotationSince]) {
		name, d, _ := cutLast(word, "@")
		if digest.Digest(d).Validate() != nil {
			continue
		}
		if _, err := reference.ParseNormalizedNamed(name); name != "" && err != nil {
			continue
		}
		if list = append(list, word); len(list) == most {
			break
		}
	}
	return list
}

// cutLast is strings.Cut at the last sep; without one all of s is after it.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}
