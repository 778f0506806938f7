package image

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/layer"
)

// Usage is the space that images take, each blob and layer once.
type Usage struct {
	Total  int64 // with what came in part
	Needed int64 // by the images that were asked for
}

// Usage adds up what is stored. No tree is walked.
func (s *Service) Usage(ctx context.Context, needed func(ID) bool) (Usage, error) {
	have, err := s.stored(ctx)
	if err != nil {
		return Usage{}, err
	}
	rest, err := s.content.Rest()
	if err != nil {
		return Usage{}, err
	}
	v := s.db.view.Load()
	held := newHolding()
	for id := range v.byID {
		if needed(id) {
			held.add(ctx, s, v, id)
		}
	}
	return Usage{Total: have.all() + rest + s.layers.Rest(), Needed: have.of(held)}, nil
}

// stock is what is stored, with the space that each takes.
type stock struct {
	blobs  map[digest.Digest]int64
	layers map[layer.ChainID]int64
}

func (s *Service) stored(ctx context.Context) (st stock, err error) {
	if st.blobs, err = s.content.Stored(); err != nil {
		return st, err
	}
	st.layers, err = s.layers.Stored(ctx)
	return st, err
}

func (st stock) all() (n int64) {
	for _, size := range st.blobs {
		n += size
	}
	for _, size := range st.layers {
		n += size
	}
	return n
}

// of is the space of what is stored and held.
func (st stock) of(h holding) (n int64) {
	for d := range h.blobs {
		n += st.blobs[d]
	}
	for c := range h.chains {
		n += st.layers[c]
	}
	return n
}

// holding is what some images consist of.
type holding struct {
	blobs  map[digest.Digest]bool
	chains map[layer.ChainID]bool
}

func newHolding() holding {
	return holding{map[digest.Digest]bool{}, map[layer.ChainID]bool{}}
}

// add adds an image. Of a damaged one that is added which can be known.
func (h holding) add(ctx context.Context, s *Service, v *view, id ID) {
	for _, n := range v.byID[id] {
		for _, d := range s.blobsOf(ctx, v.of(n, id)) {
			h.blobs[d] = true
		}
	}
	if p, err := s.partsOf(ctx, id); err == nil {
		for _, c := range p.chains {
			h.chains[c] = true
		}
	}
}

// without is what h has and other has not.
func (h holding) without(other holding) holding {
	rest := newHolding()
	for d := range h.blobs {
		if !other.blobs[d] {
			rest.blobs[d] = true
		}
	}
	for c := range h.chains {
		if !other.chains[c] {
			rest.chains[c] = true
		}
	}
	return rest
}
