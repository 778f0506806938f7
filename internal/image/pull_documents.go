package image

import (
	"context"
	"encoding/json"
	"io"
	"math"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/manifest"
)

// candidate fetches the documents: index, manifest, configuration.
func (p *pull) candidate(ctx context.Context, stage *content.Stage) (*candidate, error) {
	r, err := p.search(ctx)
	if err != nil {
		return nil, err
	}
	c := &candidate{names: p.names(), target: p.target, manifest: r.manifest().bytes}
	m := new(ocispec.Manifest)
	if err := json.Unmarshal(c.manifest, m); err != nil {
		return nil, invalidDocument("%w", err)
	}
	if err := p.check(m); err != nil {
		return nil, err
	}
	if r.config == nil {
		if r.config, err = p.config(ctx, m.Config); err != nil {
			return nil, err
		}
	}
	if err := p.parse(c, r.config, m); err != nil {
		return nil, err
	}
	if c.around, err = p.around(ctx, r); err != nil {
		return nil, err
	}
	if c.config, err = stageBytes(stage, r.config); err != nil {
		return nil, err
	}
	c.id = c.config.digest
	for _, d := range m.Layers {
		c.layers = append(c.layers, &member{size: d.Size, digest: d.Digest})
	}
	return c, nil
}

// parse reads the configuration, which must be one for us and go with the manifest.
func (p *pull) parse(c *candidate, config []byte, m *ocispec.Manifest) (err error) {
	if c.parts, err = parseConfig(config); err != nil {
		return err
	}
	have := c.parts.config.Platform
	switch {
	case have.OS != "" && have.OS != "linux":
		return errdefs.New(errdefs.InvalidArgument, "image operating system %q cannot be used on this platform: operating system is not supported", have.OS)
	case p.o.Platform != nil && !compatible(p.platform(), have):
		return notProvided(p.called(), *p.o.Platform)
	case len(m.Layers) != len(c.parts.chains):
		return errdefs.New(errdefs.InvalidArgument, "invalid manifest: it lists %d layers, the image's configuration %d", len(m.Layers), len(c.parts.chains))
	}
	return nil
}

// around are the indexes on the way to the manifest, each with the attestations
// that it has for what is next.
func (p *pull) around(ctx context.Context, r *route) (all [][]byte, err error) {
	for n, d := range r.documents[:len(r.documents)-1] {
		index, err := parseIndex(d.bytes)
		if err != nil {
			return nil, err
		}
		more, err := p.attestations(ctx, index, r.documents[n+1].descriptor.Digest)
		if err != nil {
			return nil, err
		}
		all = append(append(all, d.bytes), more...)
	}
	return all, nil
}

// check refuses manifests that are not an image's, and layers that nobody may
// pass on.
func (p *pull) check(m *ocispec.Manifest) error {
	switch m.Config.MediaType {
	case ocispec.MediaTypeImageConfig, images.MediaTypeDockerSchema2Config:
	default:
		return errdefs.New(errdefs.InvalidArgument, "%s is no image: its configuration is of the media type %.100q",
			p.called(), m.Config.MediaType)
	}
	if err := checkDepth(len(m.Layers)); err != nil {
		return err
	}
	var packed int64
	for _, d := range m.Layers {
		switch kind, ok := layerTypes[d.MediaType]; {
		case d.Size < 0:
			return invalidDocument("layer %s has %d bytes", d.Digest, d.Size)
		case !ok:
			return errdefs.New(errdefs.InvalidArgument, "layer %s: unsupported media type %.100q", d.Digest, d.MediaType)
		case kind == foreign && !p.o.Foreign:
			return errdefs.New(errdefs.Forbidden, "layer %s must not be distributed (%s): it is taken only from registries that "+
				"\"allow-nondistributable-artifacts\" of the daemon names", d.Digest, d.MediaType)
		}
		packed += min(d.Size, math.MaxInt64-packed)
	}
	return p.s.underCap(p.called(), packed)
}

// nondistributable is the OCI's word for Docker's foreign layers: images of old
// have them still.
const nondistributable = "application/vnd.oci.image.layer.nondistributable.v1.tar"

type layerType int

const (
	ordinary layerType = iota
	foreign            // "nondistributable": the registry need not have it
)

var layerTypes = map[string]layerType{
	ocispec.MediaTypeImageLayer:                                 ordinary,
	ocispec.MediaTypeImageLayerGzip:                             ordinary,
	ocispec.MediaTypeImageLayerZstd:                             ordinary,
	images.MediaTypeDockerSchema2Layer:                          ordinary,
	images.MediaTypeDockerSchema2LayerGzip:                      ordinary,
	images.MediaTypeDockerSchema2LayerZstd:                      ordinary,
	images.MediaTypeDockerSchema2LayerForeign:                   foreign,
	images.MediaTypeDockerSchema2LayerForeignGzip:               foreign,
	"application/vnd.docker.image.rootfs.foreign.diff.tar.zstd": foreign,
	nondistributable:                                            foreign,
	nondistributable + "+gzip":                                  foreign,
	nondistributable + "+zstd":                                  foreign,
}

// document returns a manifest or index, from the store if it is there.
func (p *pull) document(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	b, err := p.s.content.Read(ctx, d.Digest, maxDocument)
	if err != nil {
		b, err = p.from.Manifest(ctx, d)
	}
	if err != nil {
		return nil, err
	}
	if err := manifest.Check(d.MediaType, b); err != nil {
		return nil, invalidDocument("%w", err)
	}
	return b, nil
}

// config returns an image's configuration, from the store if it is there.
func (p *pull) config(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	b, err := p.s.content.Read(ctx, d.Digest, maxDocument)
	if err != nil {
		b, err = fetchSmall(ctx, p.from, d)
	}
	return b, err
}

// ConfigPlatform fetches an image's configuration and tells what it is made for.
func ConfigPlatform(ctx context.Context, from Source, config ocispec.Descriptor) (ocispec.Platform, error) {
	b, err := fetchSmall(ctx, from, config)
	if err != nil {
		return ocispec.Platform{}, err
	}
	p, err := parseConfig(b)
	if err != nil {
		return ocispec.Platform{}, err
	}
	return p.config.Platform, nil
}

// fetchSmall returns a small blob, verified.
func fetchSmall(ctx context.Context, from Source, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxDocument {
		return nil, invalidDocument("blob %s has %d bytes, at most %d are possible", d.Digest, d.Size, maxDocument)
	}
	if err := checkDigest(d.Digest); err != nil {
		return nil, err
	}
	r, err := from.Blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, d.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != d.Size || digest.FromBytes(b) != d.Digest {
		return nil, errdefs.New(errdefs.InvalidArgument, "image config verification failed for digest %s", d.Digest)
	}
	return b, nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return errdefs.New(errdefs.InvalidArgument, "invalid manifest: digest %.100q", d)
	}
	return nil
}
