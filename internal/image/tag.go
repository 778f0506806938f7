package image

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Tag gives an image one more reference and returns it, in familiar form. One
// that has a name, by which it is tagged, brings those for other platforms along.
func (s *Service) Tag(ctx context.Context, ref, repo, tag string) (string, *Image, error) {
	t, err := parseTag(repo, tag)
	if err != nil {
		return "", nil, err
	}
	end, err := s.begin(ctx)
	if err != nil {
		return "", nil, err
	}
	defer end()
	v := s.db.view.Load()
	f, err := v.find(ref)
	if err != nil {
		return "", nil, err
	}
	n := v.nameOf(f)
	if len(f.others) == 0 && f.index == "" && v.several(f.id) { // it is meant, and not what came with it
		n.target, n.others = n.manifest, nil
	}
	for _, id := range f.others {
		n.others = append(n.others, v.nameOf(f.one(id)).all()...)
	}
	if n.parent == "" { // another name knows it
		for _, ref := range v.byID[f.id] {
			n.parent = cmp.Or(n.parent, v.of(ref, f.id).parent)
		}
	}
	change := s.db.update
	if _, ok := v.names[t.String()]; ok { // it leads to something else then
		change = s.rename
	}
	if err := change(ctx, func(tx *transaction) error { return tx.set(t.String(), n) }); err != nil {
		return "", nil, err
	}
	i, err := s.Resolve(ctx, string(f.id))
	return reference.FamiliarString(t), i, err
}

// several reports whether a name has the image beside those for other platforms.
func (v *view) several(id ID) bool {
	other := func(e entry) bool { return e.id != id }
	return slices.ContainsFunc(v.byID[id], func(ref string) bool { return slices.ContainsFunc(v.names[ref].all(), other) })
}

// parseTag reads the reference that an image is to get: `repo` and `tag` as
// the Engine API has them.
func parseTag(repo, tag string) (reference.NamedTagged, error) {
	if repo == "" {
		return nil, errdefs.New(errdefs.InvalidArgument, "repository name must have at least one component")
	}
	named, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, errdefs.New(errdefs.InvalidArgument, "refusing to create a tag with a digest reference")
	}
	if err := unambiguous(named); err != nil {
		return nil, err
	}
	if tag != "" {
		t, err := reference.WithTag(reference.TrimNamed(named), tag)
		return t, errdefs.As(errdefs.InvalidArgument, err)
	}
	t, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return nil, errdefs.As(errdefs.InvalidArgument, errors.New("invalid reference format"))
	}
	return t, nil
}

// unambiguous refuses a name that would hide images from being asked for by the
// beginning of their ID, "sha256:…".
func unambiguous(named reference.Named) error {
	if reference.FamiliarName(named) == digest.Canonical.String() {
		return errdefs.New(errdefs.InvalidArgument, "refusing to create an ambiguous tag using digest algorithm as name")
	}
	return nil
}
