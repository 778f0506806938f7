package image

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/layer"
)

const (
	danglingPrefix = "dangling@" // + ID: the name of an image without references
	maxDocument    = 4 << 20     // bytes of a manifest, index or configuration
)

// view is all names at one moment. It is never changed once stored.
type view struct {
	names map[string]name // by reference, or dangling name
	byID  map[ID][]string // names that stand for the image on some platform, sorted
	pins  map[ID]bool
}

// parts is what an ID stands for.
type parts struct {
	config  *dockerspec.DockerOCIImage
	chains  []layer.ChainID // of each layer, base first
	size    int64
	created time.Time
}

func (p *parts) top() layer.ChainID {
	if len(p.chains) == 0 {
		return ""
	}
	return p.chains[len(p.chains)-1]
}

// partsOf reads the configuration of an image; the result is kept.
func (s *Service) partsOf(ctx context.Context, id ID) (*parts, error) {
	if p, ok := s.loaded.Load(id); ok {
		return p.(*parts), nil
	}
	b, err := s.content.Read(ctx, id, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	p, err := parseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	for _, c := range p.chains {
		size, err := s.layers.Size(c)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", id, err)
		}
		p.size += size
	}
	s.loaded.Store(id, p)
	return p, nil
}

// manifestOf reads the manifest by which an image is named.
func (s *Service) manifestOf(ctx context.Context, id ID, d digest.Digest) (*ocispec.Manifest, error) {
	b, err := s.content.Read(ctx, d, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	m := new(ocispec.Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("image %s: manifest: %w", id, err)
	}
	return m, nil
}

// listed are the blobs that a manifest lists: its configuration and its layers.
func listed(manifest []byte) ([]ocispec.Descriptor, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, err
	}
	return append([]ocispec.Descriptor{m.Config}, m.Layers...), nil
}

// maxLayers is what an image may have. Docker stops at 127, overlayfs at 500.
const maxLayers = 490

func checkDepth(layers int) error {
	if layers > maxLayers {
		return errdefs.New(errdefs.InvalidArgument, "max depth exceeded: image has %d layers, at most %d are possible", layers, maxLayers)
	}
	return nil
}

// parseConfig reads an image configuration and checks what others rely on.
func parseConfig(b []byte) (*parts, error) {
	p := &parts{config: new(dockerspec.DockerOCIImage)}
	if err := json.Unmarshal(b, p.config); err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid image configuration: %w", err)
	}
	diffs := p.config.RootFS.DiffIDs
	if p.config.RootFS.Type != "layers" && len(diffs) > 0 {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid image configuration: rootfs type %q", p.config.RootFS.Type)
	}
	if err := checkDepth(len(diffs)); err != nil {
		return nil, err
	}
	var chain layer.ChainID
	for _, d := range diffs {
		if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
			return nil, errdefs.New(errdefs.InvalidArgument, "invalid image configuration: diff ID %.80q", d)
		}
		chain = layer.Chain(chain, d)
		p.chains = append(p.chains, chain)
	}
	if p.config.Created != nil {
		p.created = *p.config.Created
	}
	return p, nil
}

// image makes the picture of an image from its names in v.
func (s *Service) image(ctx context.Context, v *view, id ID) (*Image, error) {
	return s.picture(ctx, v, id, v.byID[id])
}

// picture is image from some of the names.
func (s *Service) picture(ctx context.Context, v *view, id ID, names []string) (*Image, error) {
	p, err := s.partsOf(ctx, id)
	if err != nil {
		return nil, err
	}
	i := &Image{
		ID: id, Config: p.config, Layers: p.config.RootFS.DiffIDs, Chain: p.top(),
		Size: p.size, Created: p.created, RepoTags: []string{}, RepoDigests: []string{},
		LastUsed: s.lastUsed(v, id), Pinned: v.pins[id],
	}
	for _, n := range names {
		if err := i.add(v, n); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// add adds what one of the image's names says.
func (i *Image) add(v *view, n string) error {
	at, whole := v.of(n, i.ID), v.names[n]
	if whole.id == i.ID {
		for _, e := range whole.others {
			if e.id != i.ID && !slices.Contains(i.Others, e.id) {
				i.Others = append(i.Others, e.id)
			}
		}
	}
	if i.Manifest.Digest == "" || at.tagged.After(i.Tagged) {
		i.Manifest, i.Target, i.Tagged = at.manifest, at.target, at.tagged
	}
	if at.parent != "" {
		i.Parent = at.parent
	}
	if strings.HasPrefix(n, danglingPrefix) {
		i.Tagged = time.Time{}
		return nil
	}
	ref, err := reference.ParseNormalizedNamed(n)
	if err != nil {
		return fmt.Errorf("images.db: %q: %w", n, err)
	}
	if whole.id != i.ID {
		i.Behind = append(i.Behind, reference.FamiliarString(ref))
	}
	if _, ok := ref.(reference.Digested); ok {
		i.RepoDigests = append(i.RepoDigests, reference.FamiliarString(ref))
	} else {
		i.RepoTags = append(i.RepoTags, reference.FamiliarString(ref))
	}
	return nil
}

// List returns all images, newest first.
func (s *Service) List(ctx context.Context) ([]*Image, error) {
	return s.list(ctx, func(v *view, id ID) [][]string { return [][]string{v.byID[id]} }), nil
}

// ListTargets is List of each image once for each manifest or index that its names
// lead to, with these names.
func (s *Service) ListTargets(ctx context.Context) []*Image { return s.list(ctx, (*view).byTarget) }

// byTarget takes the names of an image apart that lead to different documents.
func (v *view) byTarget(id ID) (groups [][]string) {
	at := map[digest.Digest]int{}
	for _, n := range v.byID[id] {
		target := v.names[n].target.Digest
		if _, ok := at[target]; !ok {
			at[target] = len(groups)
			groups = append(groups, nil)
		}
		groups[at[target]] = append(groups[at[target]], n)
	}
	return groups
}

// list makes pictures of all images, each from groups of its names.
func (s *Service) list(ctx context.Context, groups func(*view, ID) [][]string) []*Image {
	v := s.db.view.Load()
	list := make([]*Image, 0, len(v.byID))
	for id := range v.byID {
		for _, names := range groups(v, id) {
			i, err := s.picture(ctx, v, id, names)
			if err != nil {
				// One damaged image damages one image.
				slog.Error("image is damaged", "image", id, "error", err)
				break
			}
			list = append(list, i)
		}
	}
	slices.SortStableFunc(list, func(a, b *Image) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(string(a.ID), string(b.ID)))
	})
	return list
}
