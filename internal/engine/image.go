package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	own "github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/hello"
)

// resolve finds an image. The embedded one is loaded when it is first asked for.
func (e *Engine) resolve(ctx context.Context, ref string) (*own.Image, error) {
	img, err := e.images.Resolve(ctx, ref)
	if !errdefs.Is(err, errdefs.NotFound) || strings.TrimSuffix(ref, ":latest") != hello.Name {
		return img, err
	}
	archive, herr := hello.Archive()
	if herr != nil {
		return nil, errors.Join(err, herr)
	}
	if _, err := e.images.Load(ctx, archive, own.LoadOptions{Quiet: true}); err != nil {
		return nil, err
	}
	return e.images.Resolve(ctx, ref)
}

// ImageLoad reads an archive of images.
func (e *Engine) ImageLoad(ctx context.Context, r io.Reader, quiet bool, platforms []ocispec.Platform, out func(jsonstream.Message)) error {
	loaded, err := e.images.Load(ctx, r, own.LoadOptions{Quiet: quiet, Platforms: platforms, Out: out})
	for _, l := range loaded {
		e.loaded(l.ID, cmp.Or(l.Name, l.ID.String()))
	}
	return err
}

// ImageList returns images, the newest first: with their manifests each once for
// each index or manifest that names lead to, as Docker's containerd store, since a
// name has those manifests only to which it leads.
func (e *Engine) ImageList(ctx context.Context, o api.ImageListOptions) ([]api.ImageSummary, error) {
	match, err := e.imageFilter(ctx, o.Filters)
	if err != nil {
		return nil, err
	}
	all, err := e.images.List(ctx)
	if err != nil {
		return nil, err
	}
	used := e.usedImages()
	shared := map[own.ID]int64{}
	if o.SharedSize {
		if shared, err = sharedSizes(e.layers, all); err != nil {
			return nil, err
		}
	}
	if o.Manifests {
		all = e.images.ListTargets(ctx)
	}
	list := []api.ImageSummary{}
	for _, img := range all {
		tags, digests, ok := match(img)
		if ok && !o.All {
			tags, digests, ok = inFront(img, tags, digests)
		}
		if !ok {
			continue
		}
		s := image.Summary{
			ID: img.ID.String(), ParentID: img.Parent.String(), RepoTags: tags, RepoDigests: digests, Created: unix(img.Created), Size: img.Size,
			SharedSize: -1, Containers: int64(len(used[img.ID.String()])), Labels: img.Config.Config.Labels, Descriptor: &img.Manifest,
		}
		if o.Manifests {
			if s.Manifests, err = e.manifests(ctx, img, used); err != nil {
				return nil, err
			}
		}
		if o.SharedSize {
			s.SharedSize = shared[img.ID]
		}
		list = append(list, api.ImageSummary{Summary: s, LastUsed: unix(img.LastUsed), Pinned: img.Pinned})
	}
	return list, nil
}

// inFront returns the names of an image that stand for it on this machine; false
// if it is only one of those of other images' names.
func inFront(img *own.Image, tags, digests []string) (frontTags, frontDigests []string, ok bool) {
	if len(img.Behind) == 0 {
		return tags, digests, true
	}
	behind := func(ref string) bool { return slices.Contains(img.Behind, ref) }
	frontTags, frontDigests = slices.DeleteFunc(slices.Clone(tags), behind), slices.DeleteFunc(slices.Clone(digests), behind)
	return frontTags, frontDigests, len(frontTags) > 0 || len(tags) == 0 && len(frontDigests) > 0
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// usedImages returns the containers of each image, by ID.
func (e *Engine) usedImages() map[string][]string {
	used := map[string][]string{}
	for _, v := range e.containers.List() {
		if v.Image != "" {
			used[v.Image] = append(used[v.Image], v.ID)
		}
		for _, m := range v.Mounts {
			if m.Image != "" && m.Image != v.Image {
				used[m.Image] = append(used[m.Image], v.ID)
			}
		}
	}
	return used
}

// imageFilter makes the condition of a list: it returns the tags and digests
// to show of an image that matches.
func (e *Engine) imageFilter(ctx context.Context, f api.Filters) (func(*own.Image) (tags, digests []string, ok bool), error) {
	if err := validate(f, api.ImageFilters); err != nil {
		return nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	for _, pattern := range f.Get("reference") {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, errdefs.As(errdefs.InvalidArgument, f.Invalid("reference"))
		}
	}
	before, since, err := e.imageAges(ctx, f)
	if err != nil {
		return nil, err
	}
	return func(img *own.Image) (tags, digests []string, ok bool) {
		tags, digests = img.RepoTags, img.RepoDigests
		if f.Has("dangling") && (len(tags) == 0) != dangling {
			return nil, nil, false
		}
		if !before.IsZero() && !img.Created.Before(before) || !since.IsZero() && !img.Created.After(since) {
			return nil, nil, false
		}
		if f.Has("label") && !f.KV("label", img.Config.Config.Labels) {
			return nil, nil, false
		}
		if f.Has("reference") {
			tags, digests = matching(tags, f.Get("reference")), matching(digests, f.Get("reference"))
			if len(tags)+len(digests) == 0 {
				return nil, nil, false
			}
		}
		return tags, digests, true
	}, nil
}

// imageAges resolves the filters before, since and until: the earliest and
// latest of the times that they mean.
func (e *Engine) imageAges(ctx context.Context, f api.Filters) (before, since time.Time, err error) {
	earlier := func(t time.Time) {
		if before.IsZero() || t.Before(before) {
			before = t
		}
	}
	for _, ref := range f.Get("before") {
		img, err := e.images.Resolve(ctx, ref)
		if err != nil {
			return before, since, err
		}
		earlier(img.Created)
	}
	for _, ref := range f.Get("since") {
		img, err := e.images.Resolve(ctx, ref)
		if err != nil {
			return before, since, err
		}
		if img.Created.After(since) {
			since = img.Created
		}
	}
	for _, s := range f.Get("until") {
		t, err := api.ParseTime(s, time.Now())
		if err != nil {
			return before, since, errdefs.As(errdefs.InvalidArgument, err)
		}
		earlier(t)
	}
	return before, since, nil
}

// matching returns the references that match one of the patterns.
func matching(refs, patterns []string) []string {
	list := []string{}
	for _, r := range refs {
		for _, p := range patterns {
			if own.MatchReference(p, r) {
				list = append(list, r)
				break
			}
		}
	}
	return list
}

// ImageInspect returns all that is known of an image.
func (e *Engine) ImageInspect(ctx context.Context, ref string, o api.ImageInspectOptions) (api.ImageInspect, error) {
	img, err := e.resolveFor(ctx, ref, o.Platforms)
	if err != nil {
		return api.ImageInspect{}, err
	}
	c := img.Config
	res := api.ImageInspect{Parent: img.Parent.String(), LastUsed: stamp(img.LastUsed), Pinned: img.Pinned}
	res.InspectResponse = image.InspectResponse{
		ID: img.ID.String(), RepoTags: img.RepoTags, RepoDigests: img.RepoDigests, Author: c.Author,
		Config: &c.Config, Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, OsVersion: c.OSVersion, Size: img.Size,
		GraphDriver: &storage.DriverData{Name: e.layers.Driver(), Data: e.layers.ChainData(img.Chain)},
		RootFS:      image.RootFS{Type: "layers"}, Metadata: image.Metadata{LastTagTime: img.Tagged}, Descriptor: &img.Manifest,
	}
	if !img.Created.IsZero() {
		res.Created = stamp(img.Created)
	}
	if len(o.Platforms) > 0 {
		d := img.Manifest
		d.Platform = &c.Platform
		res.Descriptor = &d
	}
	if o.Manifests {
		if res.Manifests, err = e.manifests(ctx, img, e.usedImages()); err != nil {
			return res, err
		}
	}
	if n := len(c.History); n > 0 {
		res.Comment = c.History[n-1].Comment
	}
	for _, d := range img.Layers {
		res.RootFS.Layers = append(res.RootFS.Layers, d.String())
	}
	return res, nil
}

// ImageHistory returns the steps by which an image came about, newest first. The
// image must be for each of the platforms.
func (e *Engine) ImageHistory(ctx context.Context, ref string, platforms []ocispec.Platform) ([]image.HistoryResponseItem, error) {
	img, err := e.resolveFor(ctx, ref, platforms)
	if err != nil {
		return nil, err
	}
	steps, err := e.images.History(ctx, img)
	if err != nil {
		return nil, err
	}
	list := make([]image.HistoryResponseItem, len(steps))
	for i, s := range steps {
		list[i] = image.HistoryResponseItem{ID: "<missing>", Created: unix(s.Created), CreatedBy: s.CreatedBy, Comment: s.Comment, Size: s.Size}
	}
	if len(list) > 0 {
		list[0].ID, list[0].Tags = img.ID.String(), img.RepoTags
	}
	return list, nil
}

// ImageAttestations lists what the attestations of an image say, or of which kinds
// they are.
func (e *Engine) ImageAttestations(ctx context.Context, ref string, o api.ImageAttestationsOptions) ([]image.AttestationStatement, error) {
	img, err := e.resolveFor(ctx, ref, o.Platforms)
	if err != nil {
		return nil, err
	}
	found, err := e.images.Statements(ctx, img, o.Types, o.Statement)
	if err != nil {
		return nil, err
	}
	var list []image.AttestationStatement
	for _, st := range found {
		one := image.AttestationStatement{Descriptor: st.Descriptor, PredicateType: st.Predicate}
		if o.Statement {
			raw := json.RawMessage(st.Text)
			one.Statement = &raw
		}
		list = append(list, one)
	}
	return list, nil
}

// ImageTag gives an image one more reference.
func (e *Engine) ImageTag(ctx context.Context, ref, repo, tag string) error {
	if _, err := e.resolve(ctx, ref); err != nil {
		return err
	}
	name, img, err := e.images.Tag(ctx, ref, repo, tag)
	if err != nil {
		return err
	}
	e.imageEvent(events.ActionTag, img.ID.String(), name)
	return nil
}

// ImageRemove takes a reference away, and the image if it was the last one.
func (e *Engine) ImageRemove(ctx context.Context, ref string, o api.ImageRemoveOptions) ([]image.DeleteResponse, error) {
	done, err := e.removeImage(ctx, ref, own.RemoveOptions{Force: o.Force, NoPrune: o.NoPrune, Platforms: o.Platforms, InUse: e.imageUsers})
	return e.deleted(done), err
}

// removeImage removes an image on a full disk too.
func (e *Engine) removeImage(ctx context.Context, ref string, o own.RemoveOptions) (done []own.Removed, err error) {
	err = e.cfg.Reserve.Use(func() error {
		some, err := e.images.Remove(ctx, ref, o)
		if len(done) > 0 && errdefs.Is(err, errdefs.NotFound) {
			return nil // the first try got as far as its name
		}
		done = append(done, some...)
		return err
	})
	return done, err
}

// imageUsers tells which containers stand on an image, and where it is mounted.
//
// Preconditions: the images' change token is held.
func (e *Engine) imageUsers(id own.ID) []own.User {
	var users []own.User
	for _, v := range e.containers.List() {
		if v.Image == id.String() {
			users = append(users, own.User{Container: v.ID, Running: v.Up()})
		}
		for _, m := range v.Mounts { // nothing keeps the layers for it: it counts as one that runs
			if m.Image == id.String() {
				users = append(users, own.User{Container: v.ID, Running: true})
			}
		}
	}
	for _, path := range e.mounts.Of(id) {
		users = append(users, own.User{Mount: path})
	}
	return users
}

// deleted tells listeners what was removed, and turns it into the API's words.
func (e *Engine) deleted(done []own.Removed) []image.DeleteResponse {
	list := []image.DeleteResponse{}
	for _, d := range done {
		list = append(list, image.DeleteResponse{Untagged: d.Untagged, Deleted: d.Deleted})
		if d.Untagged != "" {
			e.imageEvent(events.ActionUnTag, d.ID.String(), d.Untagged)
		} else {
			e.imageEvent(events.ActionDelete, d.Deleted, "")
		}
	}
	return list
}

// ImagesPrune removes dangling images, or with dangling=false all that no
// container uses.
func (e *Engine) ImagesPrune(ctx context.Context, f api.Filters) (image.PruneReport, error) {
	var report image.PruneReport
	dangling, err := f.Bool("dangling", true)
	if err != nil {
		return report, errdefs.As(errdefs.InvalidArgument, err)
	}
	match, err := pruneFilter(f, api.ImagePruneFilters)
	if err != nil {
		return report, err
	}
	unusedSince, err := unusedSince(f)
	if err != nil {
		return report, err
	}
	if !unusedSince.IsZero() && !f.Has("dangling") {
		dangling = false
	}
	all, err := e.images.List(ctx)
	if err != nil {
		return report, err
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Created.After(all[j].Created) }) // children before their parents
	used := e.usedImages()
	for _, img := range all {
		if img.Pinned || !unusedSince.IsZero() && img.LastUsed.After(unusedSince) {
			continue
		}
		if dangling && len(img.RepoTags) > 0 || len(used[img.ID.String()]) > 0 || !match(img.Created, img.Config.Config.Labels) {
			continue
		}
		done, err := e.removeImage(ctx, img.ID.String(), own.RemoveOptions{Force: true, NoPrune: true, KeepPinned: true, InUse: e.imageUsers})
		if err != nil && !errdefs.Is(err, errdefs.NotFound) && !errdefs.Is(err, errdefs.Conflict) {
			return report, err
		}
		report.ImagesDeleted = append(report.ImagesDeleted, e.deleted(done)...)
		for _, d := range done {
			report.SpaceReclaimed += uint64(d.Size)
		}
	}
	return report, nil
}

// unusedSince is the time that the filter unused-for means: images that were
// used after it stay. Zero: there is no such filter.
func unusedSince(f api.Filters) (time.Time, error) {
	values := f.Get("unused-for")
	if len(values) == 0 {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(values[0])
	if err != nil || d < 0 || len(values) > 1 {
		return time.Time{}, errdefs.As(errdefs.InvalidArgument, f.Invalid("unused-for"))
	}
	return time.Now().Add(-d), nil
}

// ImagePin keeps an image from being pruned, collected, or removed without force.
func (e *Engine) ImagePin(ctx context.Context, ref string) error {
	_, err := e.images.Pin(ctx, ref, true)
	return err
}

// ImageUnpin takes ImagePin back.
func (e *Engine) ImageUnpin(ctx context.Context, ref string) error {
	_, err := e.images.Pin(ctx, ref, false)
	return err
}
