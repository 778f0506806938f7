package image

import (
	"cmp"
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/manifest"
)

// candidate is one image as an archive describes it.
type candidate struct {
	id       ID
	parent   ID // that it was committed on, if it was
	config   *member
	layers   []*member // base first
	parts    *parts
	names    []string // normalized references
	manifest []byte
	around   [][]byte           // indexes that led to the manifest, of which target is the first, and attestations
	target   ocispec.Descriptor // what names point to: the manifest, or the index that has it
}

const (
	maxImages   = 1000          // in one archive
	maxGathered = 4 * maxImages // of them, for all platforms and documents that names lead to
	maxNames    = 1000          // of one image
)

func invalid(format string, args ...any) error {
	return errdefs.New(errdefs.InvalidArgument, "invalid archive: "+format, args...)
}

// invalidDocument is the error of a manifest or index, wherever it came from.
func invalidDocument(format string, args ...any) error {
	return errdefs.New(errdefs.InvalidArgument, "invalid manifest: "+format, args...)
}

// candidates reads the archive's documents: manifest.json of `docker save` or
// index.json of an OCI layout. Where both are, the first has all names, and the
// second the manifests that belong to them.
func (a *archive) candidates() ([]*candidate, error) {
	b, _, ok, err := a.document("manifest.json")
	if err != nil {
		return nil, err
	}
	index, _, has, err := a.document("index.json")
	if err != nil {
		return nil, err
	}
	has = has && !blank(index)
	if ok && !blank(b) && (len(a.wanted) == 0 || !has) {
		return a.docker(b)
	}
	if !has {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid archive: %w", errNoImage)
	}
	return a.oci(index)
}

// docker reads manifest.json.
func (a *archive) docker(b []byte) ([]*candidate, error) {
	var list []*struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, invalid("manifest.json: %w", err)
	}
	if len(list) > maxImages {
		return nil, invalid("manifest.json lists %d images, at most %d are possible", len(list), maxImages)
	}
	byID, byName := a.manifests()
	var all gathered
	for _, e := range list {
		if e == nil {
			return nil, invalid("manifest.json: null instead of an image")
		}
		if err := checkDepth(len(e.Layers)); err != nil {
			return nil, err
		}
		c, err := a.dockerImage(e.Config, e.RepoTags, e.Layers)
		if err != nil {
			return nil, err
		}
		for _, part := range c.split(byID[c.id], byName) {
			if err := part.c.join(&all, part.given); err != nil {
				return nil, err
			}
		}
	}
	return all.list, a.provided(all.list)
}

// part is an image of manifest.json with the names that lead to it in one way:
// by the given images, which an index beside has.
type part struct {
	c     *candidate
	given []*candidate
}

// split takes names apart that lead to the image by different documents.
func (c *candidate) split(byID []*candidate, byName map[string][]*candidate) (parts []part) {
	for _, n := range c.names {
		given := byName[n]
		if c.in(given) < 0 {
			given = byID
		}
		at := slices.IndexFunc(parts, func(p part) bool { return targetOf(p.given) == targetOf(given) })
		if at < 0 {
			one := *c
			one.names = nil
			at, parts = len(parts), append(parts, part{&one, given})
		}
		parts[at].c.names = append(parts[at].c.names, n)
	}
	if len(parts) == 0 {
		return []part{{c, byID}}
	}
	return parts
}

func targetOf(given []*candidate) digest.Digest {
	if len(given) == 0 {
		return ""
	}
	return given[0].target.Digest
}

// in finds the image in a list; -1: it is not there.
func (c *candidate) in(list []*candidate) int {
	return slices.IndexFunc(list, func(g *candidate) bool { return g.id == c.id })
}

// join adds an image to those of the archive, by its manifest among the given,
// and with the given for other platforms.
func (c *candidate) join(all *gathered, given []*candidate) error {
	var with *candidate
	if at := c.in(given); at >= 0 {
		with = given[at]
		c.manifest, c.around, c.target = with.manifest, with.around, with.target
	}
	if err := c.describeAbsent(with); err != nil {
		return err
	}
	if err := c.settle(); err != nil {
		return err
	}
	if err := all.add(c); err != nil {
		return err
	}
	for _, g := range given { // manifest.json knows one platform of each image only
		if all.has(g) {
			continue
		}
		g.names = slices.Clone(c.names)
		if err := all.add(g); err != nil {
			return err
		}
	}
	return nil
}

// gathered are the images of an archive: each once for each document that names
// lead to, and each manifest by which they do, with all of these names.
type gathered struct {
	list  []*candidate
	known map[candidateKey]*candidate
}

type candidateKey struct {
	reached
	manifest digest.Digest
}

// reached is an image, and what names lead to.
type reached struct {
	id     ID
	target digest.Digest
}

func (c *candidate) key() candidateKey {
	return candidateKey{reached{c.id, c.target.Digest}, digest.FromBytes(c.manifest)}
}

func (g *gathered) has(c *candidate) bool { return g.known[c.key()] != nil }

func (g *gathered) add(c *candidate) error {
	if old := g.known[c.key()]; old != nil {
		old.names = append(old.names, c.names...)
		return nil
	}
	if len(g.list) == maxGathered {
		return invalid("more than %d images", maxGathered)
	}
	if g.known == nil {
		g.known = map[candidateKey]*candidate{}
	}
	g.known[c.key()] = c
	g.list = append(g.list, c)
	return nil
}

func (a *archive) dockerImage(config string, tags, layers []string) (*candidate, error) {
	m, err := a.named(config)
	if err != nil {
		return nil, err
	}
	c := &candidate{config: m, id: m.digest}
	if err := c.readConfig(a, config); err != nil {
		return nil, err
	}
	if err := c.checkOS(); err != nil {
		return nil, err
	}
	for _, l := range layers {
		m, err := a.namedLayer(l)
		if err != nil {
			return nil, err
		}
		c.layers = append(c.layers, m)
	}
	if len(tags) > maxNames {
		return nil, invalid("image has %d names", len(tags))
	}
	for _, t := range tags {
		if err := c.addName(t); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// named finds a member; where its name is a digest it must be the right one.
func (a *archive) named(name string) (*member, error) {
	if hex, ok := strings.CutPrefix(memberName(name), "blobs/sha256/"); ok {
		return a.blob(digest.NewDigestFromEncoded(digest.SHA256, hex))
	}
	return a.member(name)
}

// namedLayer is named for a layer, which may be absent if its name is a digest.
func (a *archive) namedLayer(name string) (*member, error) {
	if hex, ok := strings.CutPrefix(memberName(name), "blobs/sha256/"); ok {
		if d := digest.NewDigestFromEncoded(digest.SHA256, hex); a.absent(d) {
			return &member{digest: d, absent: true}, nil
		}
	}
	return a.named(name)
}

// describeAbsent takes the sizes of absent layers from the image's manifest,
// without which nothing says what they have to be.
func (c *candidate) describeAbsent(with *candidate) error {
	for i, m := range c.layers {
		if !m.absent {
			continue
		}
		if with == nil || i >= len(with.layers) || with.layers[i].digest != m.digest {
			return invalid("%q is missing", blobPath(m.digest))
		}
		m.size = with.layers[i].size
	}
	return nil
}

func (c *candidate) readConfig(a *archive, name string) error {
	b, _, _, err := a.document(name)
	if err != nil {
		return err
	}
	c.parts, err = parseConfig(b)
	return err
}

// checkOS refuses what is made for another operating system.
func (c *candidate) checkOS() error {
	if os := c.parts.config.OS; os != "" && os != "linux" {
		return errdefs.New(errdefs.InvalidArgument, "cannot load %.20s image on linux", os)
	}
	return nil
}

func (c *candidate) addName(ref string) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return errdefs.New(errdefs.InvalidArgument, "invalid tag %.300q: %w", ref, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return errdefs.New(errdefs.InvalidArgument, "invalid tag %.300q", ref)
	}
	if err := unambiguous(named); err != nil {
		return err
	}
	c.names = append(c.names, reference.TagNameOnly(named).String())
	return nil
}

// settle checks that layers and configuration belong together, and finds or
// writes the manifest.
func (c *candidate) settle() error {
	if want := len(c.parts.chains); len(c.layers) != want {
		return invalid("image %s has %d layers, its configuration lists %d", c.id, len(c.layers), want)
	}
	if c.manifest == nil {
		if err := c.writeManifest(); err != nil {
			return err
		}
	}
	if len(c.around) == 0 {
		c.target = describe(c.manifest)
	}
	return nil
}

func (c *candidate) name() name {
	return name{entry: entry{id: c.id, parent: c.parent, manifest: describe(c.manifest)}, target: c.target}
}

// describe makes the descriptor of a manifest.
func describe(b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: manifestType(b), Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func manifestType(b []byte) string { return cmp.Or(ownType(b), ocispec.MediaTypeImageManifest) }

// ownType is what a document says that it is, "" if it does not.
func ownType(b []byte) string {
	var m struct{ MediaType string }
	if json.Unmarshal(b, &m) != nil {
		return ""
	}
	return m.MediaType
}

// writeManifest makes the OCI manifest of an image that came without one.
func (c *candidate) writeManifest() error {
	var layers []ocispec.Descriptor
	for _, l := range c.layers {
		packed, err := l.compression()
		if err != nil {
			return err
		}
		layers = append(layers, ocispec.Descriptor{MediaType: layerTypeOf(packed), Digest: l.digest, Size: l.size})
	}
	return c.list(layers)
}

// list makes the OCI manifest that lists the configuration and these layers.
func (c *candidate) list(layers []ocispec.Descriptor) (err error) {
	if layers == nil {
		layers = []ocispec.Descriptor{}
	}
	c.manifest, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: c.id, Size: c.config.size},
		Layers:    layers,
	})
	return err
}

// layerTypeOf is the media type of a layer that is packed so.
func layerTypeOf(c compression) string {
	switch c {
	case plain:
		return ocispec.MediaTypeImageLayer
	case gzipped:
		return ocispec.MediaTypeImageLayerGzip
	case zstded:
		return ocispec.MediaTypeImageLayerZstd
	}
	return ocispec.MediaTypeImageLayer + "+" + string(c)
}

// manifests returns the images with manifests that an index beside manifest.json
// leads to, each with those for other platforms that come with it, by their IDs and
// by the names that the index has for them. What is wrong with them is no matter:
// they are a bonus.
func (a *archive) manifests() (byID map[ID][]*candidate, byName map[string][]*candidate) {
	byID, byName = map[ID][]*candidate{}, map[string][]*candidate{}
	b, _, ok, err := a.document("index.json")
	if !ok || err != nil {
		return byID, byName
	}
	index, err := parseIndex(b)
	if err != nil {
		return byID, byName
	}
	for _, d := range index.Manifests {
		group, err := a.ociImages(d, 0, seen{})
		if err != nil {
			continue
		}
		group = slices.DeleteFunc(group, func(c *candidate) bool { return c.checkOS() != nil || c.settle() != nil })
		for _, c := range group {
			byID[c.id] = group
		}
		var named candidate
		if named.nameOCI(d.Annotations) == nil && len(named.names) > 0 {
			byName[named.names[0]] = group
		}
	}
	return byID, byName
}

// parseIndex reads an index, which need not say that it is one.
func parseIndex(b []byte) (*ocispec.Index, error) {
	kind := cmp.Or(ownType(b), ocispec.MediaTypeImageIndex)
	if !images.IsIndexType(kind) {
		return nil, invalidDocument("a document of the media type %.100q is no index", kind)
	}
	if err := manifest.Check(kind, b); err != nil {
		return nil, invalidDocument("%w", err)
	}
	i := new(ocispec.Index)
	if err := json.Unmarshal(b, i); err != nil {
		return nil, invalidDocument("index: %w", err)
	}
	if len(i.Manifests) > maxImages {
		return nil, invalidDocument("index lists %d manifests, at most %d are possible", len(i.Manifests), maxImages)
	}
	return i, nil
}

// oci reads index.json.
func (a *archive) oci(b []byte) ([]*candidate, error) {
	index, err := parseIndex(b)
	if err != nil {
		return nil, err
	}
	var all gathered
	var missing []string
	for _, d := range index.Manifests {
		group, err := a.ociImages(d, 0, seen{})
		if err != nil {
			return nil, err
		}
		if group, err = ofLinux(group); err != nil {
			return nil, err
		}
		for _, c := range group {
			if err := c.nameOCI(d.Annotations); err != nil {
				return nil, err
			}
			if err := c.settle(); err != nil {
				return nil, err
			}
		}
		fitting, ok := a.fitting(group)
		if !ok && len(group) > 0 {
			missing = append(missing, group[0].familiar())
		}
		for _, c := range fitting {
			if err := all.add(c); err != nil {
				return nil, err
			}
		}
	}
	if len(missing) > 0 {
		return nil, a.notProvided(missing)
	}
	if len(all.list) == 0 {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid archive: %w", errNoImage)
	}
	return all.list, nil
}

// nameOCI takes the name from a descriptor's annotations: containerd's and
// Docker's full one, or the specification's, which may be a tag only.
func (c *candidate) nameOCI(annotations map[string]string) error {
	if n := annotations["io.containerd.image.name"]; n != "" {
		return c.addName(n)
	}
	n := annotations[ocispec.AnnotationRefName]
	if strings.ContainsAny(n, ":/") {
		return c.addName(n)
	}
	return nil // a bare tag has no repository
}

const maxNesting = 4 // of indexes

// ociImages follows a descriptor to the images that the archive has of it: none
// if it leads to attestations, or to what has been met.
func (a *archive) ociImages(d ocispec.Descriptor, depth int, met seen) ([]*candidate, error) {
	if depth > maxNesting {
		return nil, invalid("indexes are nested more than %d deep", maxNesting)
	}
	if d.Annotations[annotationReferenceType] != "" || d.ArtifactType != "" || met.before(d.Digest) {
		return nil, nil
	}
	m, err := a.blob(d.Digest)
	if err != nil {
		return nil, err
	}
	if m.size != d.Size {
		return nil, invalid("blob %s has %d bytes, its descriptor says %d", d.Digest, m.size, d.Size)
	}
	b, _, _, err := a.document(path.Join("blobs/sha256", d.Digest.Encoded()))
	if err != nil {
		return nil, err
	}
	if err := manifest.Check(d.MediaType, b); err != nil {
		return nil, invalid("blob %s: %w", d.Digest, err)
	}
	switch d.MediaType {
	case ocispec.MediaTypeImageIndex, images.MediaTypeDockerSchema2ManifestList:
		group, err := a.ociIndex(b, depth, met)
		for _, c := range group {
			c.around = append([][]byte{b}, append(c.around, a.attestations(b, c)...)...)
			c.target = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
		}
		return group, err
	case ocispec.MediaTypeImageManifest, images.MediaTypeDockerSchema2Manifest:
		c, err := a.ociManifest(b)
		if err != nil || c == nil {
			return nil, err
		}
		return []*candidate{c}, nil
	}
	return nil, invalid("media type %.100q of %s", d.MediaType, d.Digest)
}

// ociIndex follows an index to its images.
func (a *archive) ociIndex(b []byte, depth int, met seen) (all []*candidate, err error) {
	index, err := parseIndex(b)
	if err != nil {
		return nil, err
	}
	for _, d := range index.Manifests {
		// An archive of one platform lists the others without their blobs.
		if m, _ := a.member("blobs/sha256/" + d.Digest.Encoded()); m == nil {
			continue
		}
		group, err := a.ociImages(d, depth+1, met)
		if err != nil {
			return nil, err
		}
		if all = append(all, group...); len(all) > maxImages {
			return nil, invalid("more than %d images", maxImages)
		}
	}
	return all, nil
}

func (a *archive) ociManifest(b []byte) (*candidate, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, invalid("manifest: %w", err)
	}
	if m.ArtifactType != "" && m.Config.MediaType != ocispec.MediaTypeImageConfig {
		return nil, nil
	}
	if err := checkDepth(len(m.Layers)); err != nil {
		return nil, err
	}
	config, err := a.described(m.Config)
	if err != nil {
		return nil, err
	}
	c := &candidate{id: config.digest, config: config, manifest: b}
	if err := c.readConfig(a, path.Join("blobs/sha256", config.digest.Encoded())); err != nil {
		return nil, err
	}
	for _, d := range m.Layers {
		l, err := a.describedLayer(d)
		if err != nil {
			return nil, err
		}
		c.layers = append(c.layers, l)
	}
	return c, nil
}

// describedLayer is described for a layer, which may be absent.
func (a *archive) describedLayer(d ocispec.Descriptor) (*member, error) {
	if a.absent(d.Digest) {
		return &member{digest: d.Digest, size: d.Size, absent: true}, nil
	}
	return a.described(d)
}

// described finds a blob and checks all that its descriptor says.
func (a *archive) described(d ocispec.Descriptor) (*member, error) {
	m, err := a.blob(d.Digest)
	if err != nil {
		return nil, err
	}
	if m.size != d.Size {
		return nil, invalid("blob %s has %d bytes, its descriptor says %d", d.Digest, m.size, d.Size)
	}
	return m, nil
}
