package image

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// Resolve finds an image by reference, ID or the beginning of an ID.
func (s *Service) Resolve(ctx context.Context, ref string) (*Image, error) {
	return s.ResolveFor(ctx, ref, nil)
}

// ResolveFor is Resolve of an image that is for each of the platforms: of those
// that the reference has by its index the first one that is.
func (s *Service) ResolveFor(ctx context.Context, ref string, want []ocispec.Platform) (*Image, error) {
	v := s.db.view.Load()
	f, err := v.find(ref)
	if err != nil {
		return nil, err
	}
	var damaged error
	for _, id := range f.all() {
		i, err := s.found(ctx, v, f.one(id))
		if err != nil && len(want) == 0 {
			return nil, err
		}
		if err != nil { // it may be another one that is wanted
			damaged = err
			continue
		}
		if !slices.ContainsFunc(want, func(p ocispec.Platform) bool { return !Matches(p, i.Config.Platform) }) {
			if id == f.id && f.named() {
				i.Others = f.others
			}
			return i, nil
		}
	}
	return nil, cmp.Or(damaged, notProvided(ref, want...))
}

// found makes the picture of an image as it was found: with the manifest and the
// index by which the name leads to it.
func (s *Service) found(ctx context.Context, v *view, f found) (*Image, error) {
	i, err := s.image(ctx, v, f.id)
	if err == nil && f.named() {
		n := v.nameOf(f)
		i.Manifest, i.Target = n.manifest, n.target
	}
	return i, err
}

// ResolveToRun is Resolve of an image that runs where one for a platform does: of
// those that the reference has by its index the best.
func (s *Service) ResolveToRun(ctx context.Context, ref string, want ocispec.Platform) (best *Image, err error) {
	v := s.db.view.Load()
	f, err := v.find(ref)
	if err != nil {
		return nil, err
	}
	match := platforms.Only(want)
	var damaged error
	for _, id := range f.all() {
		i, err := s.found(ctx, v, f.one(id))
		if err != nil { // another one may do
			damaged = err
			continue
		}
		if compatible(want, i.Config.Platform) && (best == nil || match.Less(i.Config.Platform, best.Config.Platform)) {
			best = i
		}
	}
	if best == nil {
		return nil, cmp.Or(damaged, notProvided(ref, want))
	}
	return best, nil
}

// Fellows are the images that the references of i stand for on other platforms,
// without those that are damaged.
func (s *Service) Fellows(ctx context.Context, i *Image) []*Image {
	var list []*Image
	v := s.db.view.Load()
	for _, id := range i.Others {
		if len(v.byID[id]) == 0 { // removed meanwhile
			continue
		}
		other, err := s.image(ctx, v, id)
		if err != nil {
			slog.Error("image is damaged", "image", id, "error", err)
			continue
		}
		list = append(list, other)
	}
	return list
}

// Meant are the images that ref means, for every platform; none if it means nothing.
func (s *Service) Meant(ref string) []ID {
	f, err := s.db.view.Load().find(ref)
	if err != nil {
		return nil
	}
	return f.all()
}

// found is the image that a reference or ID means.
type found struct {
	id     ID
	ref    string        // the name that led to it, "" if it was an ID or a digest
	index  digest.Digest // of the index that was meant, by its digest alone; ""
	others []ID          // that the name or the index has for other platforms
}

// named reports whether something was found by what leads to it, and not itself.
func (f found) named() bool { return f.ref != "" || f.index != "" }

func (f found) all() []ID { return append([]ID{f.id}, f.others...) }

// allOf finds all of a name.
func (v *view) allOf(ref string) found {
	n := v.names[ref]
	f := found{id: n.id, ref: ref}
	for _, e := range n.others {
		if e.id != f.id && !slices.Contains(f.others, e.id) {
			f.others = append(f.others, e.id)
		}
	}
	return f
}

// one is one of the images that were found.
func (f found) one(id ID) found { return found{id: id, ref: f.ref, index: f.index} }

// nameOf is what the name that led to an image says, or the newest of those that
// stand for what was meant.
func (v *view) nameOf(f found) (n name) {
	if f.ref != "" {
		return v.of(f.ref, f.id)
	}
	for _, ref := range v.byID[f.id] {
		other := v.of(ref, f.id)
		if f.index != "" && other.target.Digest != f.index {
			continue
		}
		if n.id == "" || other.tagged.After(n.tagged) {
			n = other
		}
	}
	return n
}

// find tells what ref means. Names go before beginnings of IDs, as in Docker.
func (v *view) find(ref string) (found, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return found{}, errdefs.As(errdefs.InvalidArgument, err)
	}
	named, ok := parsed.(reference.Named)
	if !ok { // "sha256:…" or 64 digits
		d, ok := parsed.(reference.Digested)
		if !ok {
			return found{}, noSuchImage(ref)
		}
		if f, ok := v.digest(d.Digest()); ok {
			return f, nil
		}
		return found{}, noSuchImage(d.Digest().String())
	}
	if d, ok := named.(reference.Digested); ok {
		return v.digested(named, d.Digest())
	}
	full := reference.TagNameOnly(named).String()
	if _, ok := v.names[full]; ok {
		return v.allOf(full), nil
	}
	if id, err := v.prefix(ref); id != "" || err != nil {
		return found{id: id}, err
	}
	return found{}, noSuchImage(reference.FamiliarString(reference.TagNameOnly(named)))
}

func noSuchImage(ref string) error {
	return errdefs.New(errdefs.NotFound, "No such image: %s", ref)
}

// notProvided is the error of a reference that has nothing for the platforms.
func notProvided(ref string, want ...ocispec.Platform) error {
	names := make([]string, len(want))
	for i, p := range want {
		names[i] = platforms.FormatAll(p)
	}
	return errdefs.New(errdefs.NotFound, "image with reference %s was found but does not provide the specified platform (%s)", ref, strings.Join(names, ", "))
}

// digest finds an image by its ID or by its manifest's digest, or all images of
// an index by that's.
func (v *view) digest(d digest.Digest) (found, bool) {
	if _, ok := v.byID[d]; ok {
		return found{id: d}, true
	}
	if f := v.indexed(d); f.id != "" {
		return f, true
	}
	for _, n := range v.entries() {
		if n.manifest.Digest == d {
			return found{id: n.id}, true
		}
	}
	return found{}, false
}

// indexed finds the images that names have by an index, first those for which a
// name stands on this machine.
func (v *view) indexed(index digest.Digest) found {
	f := found{index: index}
	for _, ref := range slices.Sorted(maps.Keys(v.names)) {
		n := v.names[ref]
		if !n.indexed() || n.target.Digest != index {
			continue
		}
		for _, e := range n.all() {
			switch {
			case f.id == "":
				f.id = e.id
			case f.id != e.id && !slices.Contains(f.others, e.id):
				f.others = append(f.others, e.id)
			}
		}
	}
	return f
}

// digested finds `repo@sha256:…`: a reference that was pulled so, or an image
// with that digest that has a name in the repository.
func (v *view) digested(named reference.Named, d digest.Digest) (found, error) {
	bare := reference.TrimNamed(named)
	full := bare.String() + "@" + d.String()
	if _, ok := v.names[full]; ok {
		return v.allOf(full), nil
	}
	var all []found
	for full, n := range v.entries() {
		if ref, err := reference.ParseNormalizedNamed(full); err != nil || ref.Name() != bare.Name() {
			continue
		}
		switch {
		case n.target.Digest == d:
			all = append(all, v.allOf(full))
		case n.manifest.Digest == d, n.id == d:
			all = append(all, found{id: n.id, ref: full})
		}
	}
	if len(all) == 0 {
		return found{}, noSuchImage(reference.FamiliarString(named))
	}
	return slices.MinFunc(all, func(a, b found) int { return strings.Compare(a.ref, b.ref) }), nil
}

// prefix finds the one image whose ID begins with ref; "" if there is none.
func (v *view) prefix(ref string) (ID, error) {
	short, _ := strings.CutPrefix(ref, "sha256:")
	if !ident.ValidPrefix(short) {
		return "", nil
	}
	var match ID
	for id := range v.byID {
		if strings.HasPrefix(id.Encoded(), short) {
			if match != "" {
				return "", errdefs.New(errdefs.InvalidArgument, "ambiguous digest string: %s", ref)
			}
			match = id
		}
	}
	return match, nil
}
