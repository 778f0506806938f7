package image

import (
	"context"
	"os"
	"slices"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/disk"
)

// Cap bounds the space that images take: blobs and unpacked layers that are
// visible. What is on its way, and layers that are being deleted, do not count.
type Cap struct {
	Bytes     int64           // 0: no bound
	InUse     func(ID) []User // such images are not collected, nor pinned ones
	Collected func([]Removed) // hears what was
}

// SetCap bounds the space of the images that come from now on. It is called
// before the service is used by several.
func (s *Service) SetCap(c Cap) { s.cap = c }

// makeRoom removes the images whose last use is longest ago until what arrives
// fits under the cap. Nothing is removed if it will not fit. Preconditions: the
// change token is held.
func (a *arrival) makeRoom(ctx context.Context, list []*candidate) error {
	s := a.s
	if s.cap.Bytes == 0 {
		return nil
	}
	wanted, bytes := a.wants(list)
	v := s.db.view.Load()
	victims, kept := s.victims(ctx, v, list)
	have, err := s.stored(ctx)
	if err != nil {
		return err
	}
	for d := range wanted.blobs {
		kept.blobs[d] = true
	}
	for c := range wanted.chains {
		kept.chains[c] = true
	}
	free := newHolding()
	for _, id := range victims {
		free.add(ctx, s, v, id)
	}
	total := have.all()
	if stays := total - have.of(free.without(kept)); stays+bytes > s.cap.Bytes {
		return errdefs.New(errdefs.Conflict, "image %s does not fit: it needs %s more, and what is pinned, in use or a part of it takes %s of the %s that images may take (--image-cap)",
			list[0].familiar(), units.HumanSize(float64(bytes)), units.HumanSize(float64(stays)), units.HumanSize(float64(s.cap.Bytes)))
	}
	for _, id := range victims {
		if total+bytes <= s.cap.Bytes {
			break
		}
		r := &removal{s: s, id: id, names: s.db.view.Load().references(id), spared: wanted}
		done, err := r.delete(ctx)
		s.cap.Collected(done)
		if err != nil {
			return err
		}
		if have, err = s.stored(ctx); err != nil {
			return err
		}
		total = have.all()
	}
	return nil
}

// wants is what the images consist of, and the space that the new parts take.
func (a *arrival) wants(list []*candidate) (holding, int64) {
	wanted := newHolding()
	bytes := a.batch.Disk(len(list))
	blob := func(d digest.Digest, size, taken int64) {
		if !wanted.blobs[d] && !a.s.content.HasWhole(d, size) {
			bytes += taken
		}
		wanted.blobs[d] = true
	}
	for _, c := range list {
		for _, m := range append([]*member{c.config}, c.layers...) {
			blob(m.digest, m.size, blocksOf(m.path))
		}
		all, _ := listed(c.manifest)
		for _, d := range all { // layers that need not come are in it only
			wanted.blobs[d.Digest] = true
		}
		for _, b := range append([][]byte{c.manifest}, c.around...) {
			const block = 4096
			size := int64(len(b))
			blob(digest.FromBytes(b), size, (size+block-1)/block*block)
		}
		for _, chain := range c.parts.chains {
			wanted.chains[chain] = true
		}
	}
	return wanted, bytes
}

// underCap refuses an image whose layers alone are more than images may take.
func (s *Service) underCap(called string, layers int64) error {
	if most := s.cap.Bytes; most > 0 && layers > most {
		return errdefs.New(errdefs.Conflict, "image %s does not fit: its layers alone have %s, images may take %s (--image-cap)",
			called, units.HumanSize(float64(layers)), units.HumanSize(float64(most)))
	}
	return nil
}

func blocksOf(p string) int64 {
	info, err := os.Stat(p)
	if err != nil {
		return 0
	}
	return disk.Taken(info)
}

// victims are the images that may be collected, the first to go first, and
// kept is what the others consist of.
func (s *Service) victims(ctx context.Context, v *view, list []*candidate) (ids []ID, kept holding) {
	kept = newHolding()
	for id := range v.byID {
		arriving := slices.ContainsFunc(list, func(c *candidate) bool { return c.id == id })
		_, err := s.partsOf(ctx, id)
		if v.pins[id] || arriving || err != nil || len(s.cap.InUse(id)) > 0 { // what a damaged one holds is not known
			kept.add(ctx, s, v, id)
		} else {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b ID) int { return s.lastUsed(v, a).Compare(s.lastUsed(v, b)) })
	return ids, kept
}
