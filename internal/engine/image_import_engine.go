package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/dataroot"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
)

// ImageImportEngine takes images from the data root of another engine on this
// machine, one after the other. One that cannot be taken is named, and the
// others come all the same.
func (d *Distribution) ImageImportEngine(ctx context.Context, r api.ImageImportEngineRequest, out func(jsonstream.Message)) (err error) {
	root, err := dataroot.Open(r.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	all, err := d.foreignImages(root, r.Dir, r.Namespaces)
	if err != nil {
		return err
	}
	if all, err = selected(all, r.Images, r.Dir); err != nil {
		return err
	}
	i := &engineImport{d: d, dry: r.DryRun, out: out}
	if r.DryRun {
		i.wanted = map[digest.Digest]int64{}
	}
	refused := 0
	for _, img := range all {
		err := i.one(ctx, img)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && len(all) == 1:
			return fmt.Errorf("%s: %w", img.shown(), err)
		case err != nil:
			refused++
			i.say("%s: not imported: %s", img.shown(), err)
		}
	}
	if r.DryRun {
		i.total()
	}
	if refused > 0 {
		return errdefs.New(errdefs.InvalidArgument, "%d of %d images were not imported", refused, len(all))
	}
	return nil
}

// foreignImage is an image of another engine.
type foreignImage struct {
	id    digest.Digest // of the configuration, or of what its name points to
	names []string      // as they are there
	bring bringFunc
}

type bringFunc = func(ctx context.Context, names []string, dry bool, out func(jsonstream.Message)) (*image.Brought, error)

// foreignImages lists the images of a data root.
func (d *Distribution) foreignImages(root *dataroot.Root, dir string, namespaces []string) ([]foreignImage, error) {
	var all []foreignImage
	graphs := root.Graphs()
	if len(namespaces) > 0 { // of containerd, and of nothing else
		graphs = nil
		if len(root.Stores()) == 0 {
			return nil, errdefs.New(errdefs.InvalidArgument, "there are no namespaces: containerd has no images in %s", dir)
		}
	}
	for _, g := range graphs {
		list, err := g.Images()
		if err != nil {
			return nil, err
		}
		for _, img := range list {
			all = append(all, foreignImage{img.ID, img.Tags, d.bringUnpacked(g, img.ID)})
		}
	}
	for _, s := range root.Stores() {
		list, err := s.Images(namespaces)
		if err != nil {
			return nil, err
		}
		all = append(all, d.packedImages(s, list)...)
	}
	return all, nil
}

func (d *Distribution) bringUnpacked(g *dataroot.Graph, id digest.Digest) bringFunc {
	return func(ctx context.Context, names []string, dry bool, out func(jsonstream.Message)) (*image.Brought, error) {
		return d.images.Bring(ctx, g, dataroot.GraphImage{ID: id, Tags: names}, dry, out)
	}
}

// packedImages are the images of containerd's store: what several names point
// to is one image.
func (d *Distribution) packedImages(s *dataroot.Store, list []dataroot.StoreImage) (all []foreignImage) {
	at := map[digest.Digest]int{}
	for _, img := range list {
		i, ok := at[img.Target.Digest]
		if !ok {
			i = len(all)
			at[img.Target.Digest] = i
			all = append(all, foreignImage{img.Target.Digest, nil, d.bringPacked(s.Source(img))})
		}
		if !standIn(img.Name) {
			all[i].names = append(all[i].names, img.Name)
		}
	}
	return all
}

// standIn reports whether a name is what other engines give images without one:
// Kubernetes' ID, Docker's "moby-dangling".
func standIn(name string) bool {
	return strings.HasPrefix(name, "sha256:") || strings.HasPrefix(name, "moby-dangling@")
}

func (d *Distribution) bringPacked(from *dataroot.Source) bringFunc {
	return func(ctx context.Context, names []string, dry bool, out func(jsonstream.Message)) (*image.Brought, error) {
		if len(names) == 0 {
			return d.images.BringPacked(ctx, nil, from, dry, out)
		}
		refs := make([]reference.Named, len(names))
		for i, n := range names {
			var err error
			if refs[i], err = reference.ParseNormalizedNamed(n); err != nil {
				return nil, errdefs.New(errdefs.InvalidArgument, "invalid name %.300q: %w", n, err)
			}
		}
		var all *image.Brought
		for _, ref := range refs {
			b, err := d.images.BringPacked(ctx, ref, from, dry, out)
			if err != nil {
				return nil, err
			}
			if all == nil || b.New {
				all = b
			}
		}
		return all, nil
	}
}

// shown is what the image is called in messages.
func (f *foreignImage) shown() string {
	if len(f.names) == 0 {
		return f.id.String()
	}
	return familiarName(f.names[0])
}

func familiarName(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(named)
}

// selected are the images that a request names: by a reference with this name
// only, by ID or its beginning, if that is no name, with all of theirs.
func selected(all []foreignImage, refs []string, dir string) ([]foreignImage, error) {
	if len(refs) == 0 {
		return all, nil
	}
	ids, err := byID(all, refs, dir)
	if err != nil {
		return nil, err
	}
	var list []foreignImage
	for _, img := range all {
		var names []string
		whole := slices.Contains(ids, img.id)
		for _, ref := range refs {
			names = append(names, img.named(ref)...)
		}
		if whole {
			names = img.names
		}
		if whole || len(names) > 0 {
			slices.Sort(names)
			img.names = slices.Compact(names)
			list = append(list, img)
		}
	}
	return list, nil
}

// byID finds the images that are named by their IDs.
func byID(all []foreignImage, refs []string, dir string) (ids []digest.Digest, err error) {
	for _, ref := range refs {
		if slices.ContainsFunc(all, func(f foreignImage) bool { return len(f.named(ref)) > 0 }) {
			continue
		}
		var found []digest.Digest
		for _, img := range all {
			if isPrefix(ref, img.id) && !slices.Contains(found, img.id) {
				found = append(found, img.id)
			}
		}
		switch len(found) {
		case 0:
			return nil, errdefs.New(errdefs.NotFound, "No such image in %s: %s", dir, ref)
		case 1:
			ids = append(ids, found[0])
		default:
			return nil, errdefs.New(errdefs.InvalidArgument, "several images in %s have IDs that begin with %s", dir, ref)
		}
	}
	return ids, nil
}

// isPrefix reports whether ref is an ID or the beginning of one.
func isPrefix(ref string, id digest.Digest) bool {
	const least = 4
	hex := strings.TrimPrefix(ref, "sha256:")
	return len(hex) >= least && strings.HasPrefix(id.Encoded(), hex)
}

// named lists the names of the image that a reference means.
func (f *foreignImage) named(ref string) (names []string) {
	want, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil
	}
	for _, n := range f.names {
		have, err := reference.ParseNormalizedNamed(n)
		if err == nil && reference.TagNameOnly(have).String() == reference.TagNameOnly(want).String() {
			names = append(names, n)
		}
	}
	return names
}

// engineImport is one import under way.
type engineImport struct {
	d      *Distribution
	dry    bool
	wanted map[digest.Digest]int64 // layers that would come, for a dry run
	out    func(jsonstream.Message)
}

// one takes one image and says what came of it.
func (i *engineImport) one(ctx context.Context, img foreignImage) error {
	b, err := img.bring(ctx, img.names, i.dry, i.out)
	if err != nil {
		return err
	}
	shown := []string{img.id.String()}
	if len(img.names) > 0 {
		shown = nil
		for _, n := range img.names {
			shown = append(shown, familiarName(n))
		}
	}
	switch {
	case !b.New:
		i.say("Image is up to date: %s", strings.Join(shown, ", "))
	case i.dry:
		n, bytes := i.want(b.Came)
		i.say("Would import image: %s (layers: %d, %s)", strings.Join(shown, ", "), n, units.HumanSize(bytes))
	default:
		for _, name := range shown {
			i.say("Imported image: %s", name)
			i.d.loaded(b.ID, name)
		}
	}
	return nil
}

// want counts the layers that no image before would have brought.
func (i *engineImport) want(layers map[digest.Digest]int64) (n int, bytes float64) {
	for d, size := range layers {
		if _, ok := i.wanted[d]; !ok {
			i.wanted[d] = size
			n++
			bytes += float64(size)
		}
	}
	return n, bytes
}

// total says what all images of a dry run come to.
func (i *engineImport) total() {
	var bytes float64
	for _, size := range i.wanted {
		bytes += float64(size)
	}
	i.say("Total: layers: %d, %s", len(i.wanted), units.HumanSize(bytes))
}

func (i *engineImport) say(format string, args ...any) {
	i.out(jsonstream.Message{Stream: fmt.Sprintf(format, args...) + "\n"})
}
