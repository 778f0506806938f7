package image

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/layer"
)

// User is a container that stands on an image, or a place where it is mounted.
type User struct {
	Container string // ID; "" of a place
	Running   bool
	Mount     string // path of a place
}

// String says what a conflict says.
func (u User) String() string {
	if u.Mount != "" {
		return "mount at " + u.Mount
	}
	return "container " + ident.Short(u.Container)
}

// RemoveOptions of a removal.
type RemoveOptions struct {
	Force      bool
	NoPrune    bool               // keep the images without a name on which it was made
	KeepPinned bool               // a pinned image stays, even with Force
	Platforms  []ocispec.Platform // only the images for these; empty: all that the reference has
	InUse      func(ID) []User
}

// Removed is one thing that a removal took away: a reference, or an image or
// layer.
type Removed struct {
	ID       ID     // the image that it belonged to
	Untagged string // familiar reference
	Deleted  string // ID of an image, chain ID of a layer
	Size     int64  // bytes that are free now
}

// Remove takes a reference away, and the images with their last one. Named by ID,
// an image goes with all references, if they are of one repository. Images without
// a name on which one was made go as well, where nothing else needs them. Conflicts
// are Docker's: an image of a running container stays whatever is asked.
func (s *Service) Remove(ctx context.Context, ref string, o RemoveOptions) ([]Removed, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	v := s.db.view.Load()
	done, err := s.remove(ctx, v, ref, o)
	if err != nil || o.NoPrune {
		return done, err
	}
	parents, err := s.removeParents(ctx, v, done, o.InUse)
	return append(done, parents...), err
}

// remove is Remove without the images below. Preconditions: the change token is held.
func (s *Service) remove(ctx context.Context, v *view, ref string, o RemoveOptions) ([]Removed, error) {
	f, err := v.find(ref)
	if err != nil {
		return nil, err
	}
	ids, err := s.only(ctx, f.all(), ref, o.Platforms)
	if err != nil {
		return nil, err
	}
	var list []*removal
	for _, id := range ids {
		r := s.newRemoval(v, f.one(id), o)
		if err := r.check(ref, f); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	var done []Removed
	for _, r := range list {
		more, err := r.run(ctx)
		if done = append(done, more...); err != nil {
			return done, err
		}
	}
	slices.SortStableFunc(done, func(a, b Removed) int { // names go first, as with one image
		return cmp.Compare(min(len(b.Untagged), 1), min(len(a.Untagged), 1))
	})
	return done, nil
}

// removeParents removes the images without a name on which those that have gone
// were made, up to the first that something else needs.
func (s *Service) removeParents(ctx context.Context, before *view, done []Removed, inUse func(ID) []User) (gone []Removed, err error) {
	for _, d := range done {
		if d.Deleted != d.ID.String() {
			continue // a layer, or a name
		}
		for id := before.parent(d.ID); s.db.view.Load().nameless(id) && (inUse == nil || len(inUse(id)) == 0); id = before.parent(id) {
			more, err := (&removal{s: s, id: id}).delete(ctx)
			if gone = append(gone, more...); err != nil {
				return gone, err
			}
		}
	}
	return gone, nil
}

// parent is the image on which another one was made here; "" if there is none.
func (v *view) parent(id ID) ID {
	for _, n := range v.byID[id] {
		if p := v.of(n, id).parent; p != "" {
			return p
		}
	}
	return ""
}

// nameless reports whether an image is there that has no name and no pin, and on
// which none was made.
func (v *view) nameless(id ID) bool {
	if len(v.byID[id]) == 0 || len(v.references(id)) > 0 || v.pins[id] {
		return false
	}
	for _, n := range v.names {
		for _, e := range n.all() {
			if e.parent == id {
				return false
			}
		}
	}
	return true
}

// references lists the names of an image that are references.
func (v *view) references(id ID) []string {
	var refs []string
	for _, n := range v.byID[id] {
		if !strings.HasPrefix(n, danglingPrefix) {
			refs = append(refs, n)
		}
	}
	return refs
}

// removal is one removal under way: of an image, or of names that it has.
type removal struct {
	s     *Service
	o     RemoveOptions
	id    ID
	names []string // references, normalized
	gone  []string // of these, those that go
	last  bool     // the image goes with them
	users []User
	done  []Removed

	spared holding // what is not freed, for it is about to be needed
}

// newRemoval makes the removal of one image that was found. A reference goes with
// those that came with it; an index with all references that lead to it, as with
// Docker; an ID with all that the image has.
func (s *Service) newRemoval(v *view, f found, o RemoveOptions) *removal {
	r := &removal{s: s, o: o, id: f.id, names: v.references(f.id)}
	if o.InUse != nil {
		r.users = o.InUse(f.id)
	}
	r.gone = r.names
	switch {
	case f.ref != "":
		r.gone = append([]string{f.ref}, companions(r.names, f.ref)...)
	case f.index != "":
		r.gone = slices.DeleteFunc(slices.Clone(r.names), func(n string) bool { return v.names[n].target.Digest != f.index })
	}
	r.last = len(without(r.names, r.gone)) == 0 && (f.ref == "" || len(r.users) == 0)
	return r
}

// run takes away what check has allowed.
func (r *removal) run(ctx context.Context) ([]Removed, error) {
	if r.last {
		return r.delete(ctx)
	}
	return r.untag(ctx, r.gone)
}

// check refuses what the client, which calls it ref, must not have removed.
func (r *removal) check(ref string, f found) error {
	if f.ref != "" {
		return r.checkReference(ref)
	}
	return r.checkImage(cmp.Or(f.index, f.id))
}

// checkReference refuses to take a reference away if that takes the image from
// its users, or takes away a pinned one.
func (r *removal) checkReference(ref string) error {
	if !r.o.Force && oneRepository(r.names) && len(r.users) > 0 {
		return errdefs.New(errdefs.Conflict,
			"conflict: unable to remove repository reference %q (must force) - %s is using its referenced image %s",
			ref, r.users[0], ident.Short(r.id.Encoded()))
	}
	return r.checkPin()
}

// checkImage refuses to take away an image that is called by a digest.
func (r *removal) checkImage(called digest.Digest) error {
	conflict := func(force, why string) error { return conflict(called, force, why) }
	for _, u := range r.users {
		switch {
		case !r.last: // it keeps the image
		case u.Mount != "":
			return conflict("cannot be forced", "image is mounted at "+u.Mount)
		case u.Running:
			return conflict("cannot be forced", "image is being used by running container "+ident.Short(u.Container))
		}
	}
	if !r.o.Force {
		if len(r.gone) > 1 && !oneRepository(r.gone) {
			return conflict("must be forced", "image is referenced in multiple repositories")
		}
		if r.last && len(r.users) > 0 {
			return conflict("must be forced", "image is being used by stopped container "+ident.Short(r.users[0].Container))
		}
	}
	return r.checkPin()
}

func conflict(id digest.Digest, force, why string) error {
	return errdefs.New(errdefs.Conflict, "conflict: unable to delete %s (%s) - %s", ident.Short(id.Encoded()), force, why)
}

// oneRepository reports whether there is at most one tag, and nothing of
// another repository.
func oneRepository(names []string) bool {
	tags, repositories := 0, map[string]bool{}
	for _, n := range names {
		ref, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			continue
		}
		repositories[ref.Name()] = true
		if _, ok := ref.(reference.Digested); !ok {
			tags++
		}
	}
	return tags <= 1 && len(repositories) <= 1
}

func without(names, gone []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(gone, n) })
}

// companions are the digests in the repository of a tag that goes, if no other
// tag of the repository stays.
func companions(names []string, gone string) (digests []string) {
	ref, err := reference.ParseNormalizedNamed(gone)
	if err != nil {
		return nil
	}
	if _, ok := ref.(reference.Digested); ok {
		return nil
	}
	for _, n := range names {
		other, err := reference.ParseNormalizedNamed(n)
		if err != nil || n == gone || other.Name() != ref.Name() {
			continue
		}
		if _, ok := other.(reference.Digested); !ok {
			return nil
		}
		digests = append(digests, n)
	}
	return digests
}

// untag removes names and keeps the image.
func (r *removal) untag(ctx context.Context, gone []string) ([]Removed, error) {
	was := r.s.db.view.Load().of(gone[0], r.id)
	err := r.s.rename(ctx, func(tx *transaction) error {
		for _, n := range gone {
			if err := tx.take(n, r.id); err != nil {
				return err
			}
		}
		return tx.dangle(was)
	})
	if err != nil {
		return nil, err
	}
	r.noteUntagged(gone)
	return r.done, nil
}

// noteUntagged notes the names that are gone, if they stand for nothing else now.
func (r *removal) noteUntagged(gone []string) {
	v := r.s.db.view.Load()
	for _, n := range gone {
		if _, ok := v.names[n]; ok {
			continue
		}
		if ref, err := reference.ParseNormalizedNamed(n); err == nil {
			r.done = append(r.done, Removed{ID: r.id, Untagged: reference.FamiliarString(ref)})
		}
	}
}

// delete removes the image with all its names, then the blobs and layers that
// no other image needs. Killed in between, the sweep at start does the rest.
func (r *removal) delete(ctx context.Context) ([]Removed, error) {
	ctx = context.WithoutCancel(ctx)
	parts, _ := r.s.partsOf(ctx, r.id) // a damaged image can be removed as well
	v := r.s.db.view.Load()
	if err := r.s.mark(); err != nil {
		return nil, err
	}
	failpoint.Hit("rmi/marked")
	err := r.s.db.update(ctx, func(tx *transaction) error {
		for _, n := range v.byID[r.id] {
			if err := tx.take(n, r.id); err != nil {
				return err
			}
		}
		if v.pins[r.id] {
			return tx.pin(r.id, false)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	failpoint.Hit("rmi/unnamed")
	r.s.uses.forget(r.id)
	r.noteUntagged(r.names)
	r.s.loaded.Delete(r.id)
	r.done = append(r.done, Removed{ID: r.id, Deleted: r.id.String()})
	if parts == nil { // what it consisted of is not known
		return r.done, r.s.sweep(ctx)
	}
	all, err := r.free(ctx, v, parts)
	if err != nil || !all { // a sweep does it
		r.s.unswept = true
		return r.done, err
	}
	failpoint.Hit("rmi/freed")
	if len(r.spared.chains) > 0 { // who is about to hold these takes the mark away
		return r.done, nil
	}
	return r.done, r.s.unmark()
}

// free removes what belonged to the image alone. It returns false if that is not
// known: another image is damaged.
func (r *removal) free(ctx context.Context, old *view, p *parts) (all bool, err error) {
	blobs := map[ID]bool{}
	for _, n := range old.byID[r.id] {
		for _, d := range r.s.blobsOf(ctx, old.of(n, r.id)) {
			blobs[d] = true
		}
	}
	chains := map[layer.ChainID]bool{}
	for _, c := range p.chains {
		chains[c] = true
	}
	for id, names := range r.s.db.view.Load().byID {
		for _, n := range names {
			for _, d := range r.s.blobsOf(ctx, old.of(n, id)) {
				delete(blobs, d)
			}
		}
		other, err := r.s.partsOf(ctx, id)
		if err != nil { // what it needs is not known
			return false, nil
		}
		for _, c := range other.chains {
			delete(chains, c)
		}
	}
	for d := range blobs {
		if r.spared.blobs[d] {
			continue
		}
		if err := r.s.content.Remove(ctx, d); err != nil {
			return false, err
		}
	}
	return true, r.freeLayers(p, chains)
}

// freeLayers removes layers, the topmost first.
func (r *removal) freeLayers(p *parts, gone map[layer.ChainID]bool) error {
	for i := len(p.chains) - 1; i >= 0; i-- {
		c := p.chains[i]
		if !gone[c] || r.spared.chains[c] {
			continue
		}
		size, _ := r.s.layers.Size(c)
		if err := r.s.layers.RemoveChain(c); err != nil {
			return err
		}
		if !r.s.layers.Has(c) { // a container may need it still
			r.done = append(r.done, Removed{ID: r.id, Deleted: c.String(), Size: size})
		}
	}
	return nil
}
