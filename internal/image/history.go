package image

import (
	"context"
	"path"
	"time"

	"github.com/distribution/reference"
)

// Step is one step by which an image came about.
type Step struct {
	Created   time.Time // zero if unknown
	CreatedBy string
	Comment   string
	Size      int64 // of the layer that it made, 0 if it made none
}

// History returns the steps by which an image came about, newest first.
// Layers without a step of their own, which `docker import` makes, come last.
func (s *Service) History(ctx context.Context, i *Image) ([]Step, error) {
	p, err := s.partsOf(ctx, i.ID)
	if err != nil {
		return nil, err
	}
	var steps []Step
	next := 0
	for _, h := range i.Config.History {
		st := Step{CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			st.Created = *h.Created
		}
		if !h.EmptyLayer && next < len(p.chains) {
			if st.Size, err = s.layers.Size(p.chains[next]); err != nil {
				return nil, err
			}
			next++
		}
		steps = append([]Step{st}, steps...)
	}
	return steps, nil
}

// MatchReference reports whether a familiar reference matches a pattern of the
// filter `reference`: shell wildcards over the name, with or without tag, and
// with or without what is left out of familiar names (docker.io/library/).
func MatchReference(pattern, ref string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false
	}
	for _, form := range []string{reference.FamiliarString(named), reference.FamiliarName(named), named.String(), named.Name()} {
		if ok, _ := path.Match(pattern, form); ok {
			return true
		}
	}
	return false
}

// StoredSize is what an image's documents and packed layers take in the store,
// in bytes.
func (s *Service) StoredSize(i *Image) (int64, error) {
	m, err := s.manifestOf(context.Background(), i.ID, i.Manifest.Digest)
	if err != nil {
		return 0, err
	}
	total := i.Manifest.Size + m.Config.Size
	for _, l := range m.Layers {
		total += l.Size
	}
	return total, nil
}
