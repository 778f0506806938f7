package image

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/docker/go-units"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

// New is what becomes an image beside its files.
type New struct {
	Parent    ID // the image below; "": there is none
	Config    dockerspec.DockerOCIImageConfig
	Platform  ocispec.Platform
	Author    string
	Comment   string
	CreatedBy string
	Name      reference.NamedTagged // nil: it gets none
}

// ParseName reads the name of a new image: `repo` and `tag` as the Engine API
// has them. It is nil if repo is "".
func ParseName(repo, tag string) (reference.NamedTagged, error) {
	if repo == "" {
		return nil, nil
	}
	if named, err := reference.ParseNormalizedNamed(repo); err == nil {
		if _, ok := named.(reference.Digested); ok {
			return nil, errdefs.New(errdefs.InvalidArgument, "cannot import digest reference")
		}
	}
	return parseTag(repo, tag)
}

// Commit makes an image of another one and a layer on top of it, which diff
// writes. When it returns the image is on disk.
func (s *Service) Commit(ctx context.Context, n New, diff func(ctx context.Context, out io.Writer) error) (_ ID, err error) {
	b, err := s.base(ctx, n.Parent)
	if err != nil {
		return "", err
	}
	in, err := s.newArrival()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	m, st, err := in.record(ctx, b.chain, diff)
	if err != nil {
		return "", err
	}
	failpoint.Hit("commit/layer-written")
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: m.digest, Size: m.size}
	return in.make(ctx, n, b, addition{member: m, descriptor: d, diff: m.digest, staged: st})
}

// base is what an image is made on.
type base struct {
	chain   layer.ChainID
	diffs   []layer.DiffID
	layers  []ocispec.Descriptor
	history []ocispec.History
	author  string
}

func (s *Service) base(ctx context.Context, id ID) (*base, error) {
	if id == "" {
		return &base{}, nil
	}
	i, err := s.Resolve(ctx, string(id))
	if err != nil {
		return nil, err
	}
	m, err := s.manifestOf(ctx, id, i.Manifest.Digest)
	if err != nil {
		return nil, err
	}
	b := &base{chain: i.Chain, diffs: i.Layers, history: i.Config.History, author: i.Config.Author}
	for _, d := range m.Layers {
		b.layers = append(b.layers, ociLayer(d))
	}
	return b, checkDepth(len(b.layers) + 1)
}

// ociLayer describes a layer in a manifest of OCI's.
func ociLayer(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ociLayerType(d.MediaType), Digest: d.Digest, Size: d.Size}
}

// ociLayerType is the OCI name of what Docker's manifests call a layer.
func ociLayerType(t string) string {
	switch t {
	case images.MediaTypeDockerSchema2Layer:
		return ocispec.MediaTypeImageLayer
	case images.MediaTypeDockerSchema2LayerGzip:
		return ocispec.MediaTypeImageLayerGzip
	case images.MediaTypeDockerSchema2LayerZstd:
		return ocispec.MediaTypeImageLayerZstd
	case images.MediaTypeDockerSchema2LayerForeignGzip:
		return nondistributable + "+gzip"
	case images.MediaTypeDockerSchema2LayerForeign:
		return nondistributable
	}
	return t
}

// recordBuffer is what goes at once to the blob, the digest and the unpacker,
// each on a thread of its own.
const recordBuffer = 512 << 10

// record keeps the stream that write writes as a blob, and unpacks it on top of
// a chain meanwhile.
func (a *arrival) record(ctx context.Context, on layer.ChainID, write func(context.Context, io.Writer) error) (*member, *layer.Staged, error) {
	f, err := a.stage.Create()
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	d := newDigester()
	defer d.stop()
	pipe := newAhead()
	var st *layer.Staged
	unpacked := make(chan error, 1)
	go func() {
		var err error
		if st, err = a.batch.StageOn(ctx, on, pipe); err == nil {
			_, err = io.Copy(io.Discard, pipe) // what follows the archive's end
		}
		pipe.leave(err)
		unpacked <- err
	}()
	out := bufio.NewWriterSize(&bounded{out: io.MultiWriter(f, d, pipe), most: a.s.space()}, recordBuffer)
	err = write(ctx, out)
	if err == nil {
		err = out.Flush()
	}
	pipe.end(err)
	if uerr := <-unpacked; uerr != nil && (err == nil || errors.Is(err, uerr)) {
		return nil, nil, layer.BadInput(uerr)
	}
	if err != nil {
		return nil, nil, err
	}
	syncfs.Begin(f)
	return &member{path: f.Name(), size: d.n, digest: d.sum()}, st, nil
}

// space is how much a layer may take: it is stored twice, packed or not.
func (s *Service) space() int64 {
	u, err := disk.Of(s.root)
	if err != nil {
		return 1 << 50
	}
	return u.Free - u.Free/20
}

// bounded ends a stream that would fill the disk.
type bounded struct {
	out     io.Writer
	most    int64 // bytes
	written int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.most-b.written {
		return 0, fmt.Errorf("the layer has more than %s: %w", units.HumanSize(float64(b.most)), syscall.ENOSPC)
	}
	n, err := b.out.Write(p)
	if b.written += int64(n); disk.IsFull(err) {
		err = fmt.Errorf("after %s of the layer: %w", units.HumanSize(float64(b.written)), err)
	}
	return n, err
}

// emptyTar is the digest of an archive without entries: two blocks of zeros.
const emptyTar = layer.DiffID("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")

// addition is the layer that a new image has above its base.
type addition struct {
	member     *member
	descriptor ocispec.Descriptor
	diff       layer.DiffID
	staged     *layer.Staged
}

// make writes the documents of a new image and makes it visible.
func (a *arrival) make(ctx context.Context, n New, b *base, add addition) (ID, error) {
	c := &candidate{parent: n.Parent}
	now := time.Now().UTC()
	h := ocispec.History{Created: &now, CreatedBy: n.CreatedBy, Author: n.Author, Comment: n.Comment, EmptyLayer: add.diff == emptyTar}
	img := dockerspec.DockerOCIImage{Config: n.Config}
	img.Created, img.Author, img.Platform = &now, n.Author, n.Platform
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: slices.Clone(b.diffs)}
	img.History = append(slices.Clone(b.history), h)
	layers := slices.Clone(b.layers)
	if !h.EmptyLayer {
		if err := a.batch.Adopt(add.staged, b.chain, add.diff); err != nil {
			return "", err
		}
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, add.diff)
		layers = append(layers, add.descriptor)
		c.layers = []*member{add.member}
	}
	if img.RootFS.DiffIDs == nil {
		img.RootFS.DiffIDs = []digest.Digest{}
	}
	if err := a.describe(c, img, layers); err != nil {
		return "", err
	}
	if n.Name != nil {
		c.names = []string{n.Name.String()}
	}
	end, err := a.s.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	if n.Parent != "" && len(a.s.db.view.Load().byID[n.Parent]) == 0 { // removed meanwhile, its blobs as well
		return "", noSuchImage(n.Parent.String())
	}
	return c.id, a.keep(ctx, []*candidate{c})
}

// describe writes configuration and manifest of a new image.
func (a *arrival) describe(c *candidate, img dockerspec.DockerOCIImage, layers []ocispec.Descriptor) error {
	config, err := json.Marshal(img)
	if err != nil {
		return err
	}
	if len(config) > maxDocument {
		return errdefs.New(errdefs.InvalidArgument, "the image's configuration has %d bytes, at most %d are possible", len(config), maxDocument)
	}
	if c.parts, err = parseConfig(config); err != nil {
		return err
	}
	if c.config, err = stageBytes(a.stage, config); err != nil {
		return err
	}
	c.id = c.config.digest
	if err := c.list(layers); err != nil {
		return err
	}
	c.target = describe(c.manifest)
	return nil
}
