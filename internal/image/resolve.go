package image

import (
	"context"
	"errors"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// Resolve finds an image by reference, ID or the beginning of an ID.
func (s *Service) Resolve(ctx context.Context, ref string) (*Image, error) {
	v := s.view.Load()
	id, err := v.find(ref)
	if err != nil {
		return nil, err
	}
	return s.image(ctx, v, id)
}

// find is Resolve on one view. Names go before beginnings of IDs, as in Docker.
func (v *view) find(ref string) (ID, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return "", errdefs.As(errdefs.InvalidArgument, err)
	}
	named, ok := parsed.(reference.Named)
	if !ok { // "sha256:…" or 64 digits
		d, ok := parsed.(reference.Digested)
		if !ok {
			return "", noSuchImage(ref)
		}
		if id, ok := v.digest(d.Digest()); ok {
			return id, nil
		}
		return "", noSuchImage(d.Digest().String())
	}
	if d, ok := named.(reference.Digested); ok {
		return v.digested(named, d.Digest())
	}
	if n, ok := v.names[reference.TagNameOnly(named).String()]; ok {
		return n.id, nil
	}
	if id, err := v.prefix(ref); id != "" || err != nil {
		return id, err
	}
	return "", noSuchImage(reference.FamiliarString(reference.TagNameOnly(named)))
}

func noSuchImage(ref string) error {
	return errdefs.New(errdefs.NotFound, "No such image: %s", ref)
}

// digest finds an image by its ID or by its manifest's digest.
func (v *view) digest(d digest.Digest) (ID, bool) {
	if _, ok := v.byID[d]; ok {
		return d, true
	}
	for _, n := range v.names {
		if n.target.Digest == d || n.manifest.Digest == d {
			return n.id, true
		}
	}
	return "", false
}

// digested finds `repo@sha256:…`: a reference that was pulled so, or an image
// with that digest that has a name in the repository.
func (v *view) digested(named reference.Named, d digest.Digest) (ID, error) {
	bare := reference.TrimNamed(named)
	if n, ok := v.names[bare.String()+"@"+d.String()]; ok {
		return n.id, nil
	}
	for full, n := range v.names {
		if n.target.Digest != d && n.manifest.Digest != d && n.id != d {
			continue
		}
		if ref, err := reference.ParseNormalizedNamed(full); err == nil && ref.Name() == bare.Name() {
			return n.id, nil
		}
	}
	return "", noSuchImage(reference.FamiliarString(named))
}

// prefix finds the one image whose ID begins with ref; "" if there is none.
func (v *view) prefix(ref string) (ID, error) {
	short, _ := strings.CutPrefix(ref, "sha256:")
	if !ident.ValidPrefix(short) {
		return "", nil
	}
	var found ID
	for id := range v.byID {
		if strings.HasPrefix(id.Encoded(), short) {
			if found != "" {
				return "", errdefs.New(errdefs.InvalidArgument, "ambiguous digest string: %s", ref)
			}
			found = id
		}
	}
	return found, nil
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

// Tag gives an image one more reference and returns it, in familiar form.
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
	i, err := s.Resolve(ctx, ref)
	if err != nil {
		return "", nil, err
	}
	err = s.update(ctx, func(ctx context.Context) error {
		return s.setName(ctx, t.String(), name{id: i.ID, parent: i.Parent, manifest: i.Manifest, target: i.Target})
	})
	if err != nil {
		return "", nil, err
	}
	i, err = s.Resolve(ctx, string(i.ID))
	return reference.FamiliarString(t), i, err
}
