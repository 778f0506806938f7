package engine

import (
	"context"
	"io"
	"maps"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	own "github.com/tare-engine/tare/internal/image"
)

// ContainerCommit makes an image of a container and returns its ID.
func (e *Engine) ContainerCommit(ctx context.Context, o api.CommitOptions) (string, error) {
	v, err := e.containers.View(o.Container)
	if err != nil {
		return "", err
	}
	n := own.New{Parent: own.ID(v.Image), Platform: v.Platform, Author: o.Author, Comment: o.Comment, CreatedBy: strings.Join(v.Config.Cmd, " ")}
	if n.Name, err = own.ParseName(o.Repo, o.Tag); err != nil {
		return "", err
	}
	config := v.Config
	if o.Config != nil { // what it leaves open is the container's
		config = o.Config
		merge(config, &own.Image{Config: &dockerspec.DockerOCIImage{Config: imageConfig(v.Config)}})
	}
	if n.Config, err = changed(imageConfig(config), o.Changes); err != nil {
		return "", err
	}
	id, err := e.images.Commit(ctx, n, func(ctx context.Context, out io.Writer) error {
		return e.containers.Diff(ctx, v.ID, o.Pause, out)
	})
	if err != nil {
		return "", err
	}
	name := e.named(id, n.Name)
	e.containers.Committed(v.ID, o.Comment, id.String(), name)
	return id.String(), nil
}

// named tells listeners of a new image's name, and returns it.
func (e *Engine) named(id own.ID, ref reference.NamedTagged) string {
	if ref == nil {
		return ""
	}
	name := reference.FamiliarString(ref)
	e.imageEvent(events.ActionTag, id.String(), name)
	return name
}

// changed applies instructions of a Dockerfile to a configuration and checks
// what comes out.
func changed(c dockerspec.DockerOCIImageConfig, changes []string) (dockerspec.DockerOCIImageConfig, error) {
	if err := own.Change(&c, changes); err != nil {
		return c, err
	}
	if c.StopSignal != "" {
		if _, err := spec.ParseSignal(c.StopSignal); err != nil {
			return c, errdefs.As(errdefs.InvalidArgument, err)
		}
	}
	return c, errdefs.As(errdefs.InvalidArgument, spec.ValidateHealth(c.Healthcheck))
}

// imageConfig is the part of a container's configuration that an image has.
func imageConfig(c *container.Config) dockerspec.DockerOCIImageConfig {
	ports := map[string]struct{}{}
	for p := range c.ExposedPorts {
		ports[p.String()] = struct{}{}
	}
	if len(ports) == 0 {
		ports = nil
	}
	return dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{
			User: c.User, ExposedPorts: ports, Env: slices.Clone(c.Env), Entrypoint: slices.Clone(c.Entrypoint), Cmd: slices.Clone(c.Cmd),
			Volumes: maps.Clone(c.Volumes), WorkingDir: c.WorkingDir, Labels: maps.Clone(c.Labels), StopSignal: c.StopSignal,
		},
		DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{Healthcheck: c.Healthcheck, OnBuild: slices.Clone(c.OnBuild), Shell: slices.Clone(c.Shell)},
	}
}

// ContainerExport writes all files of a container as a tar stream.
func (e *Engine) ContainerExport(ctx context.Context, ref string, out io.Writer) error {
	return e.containers.Export(ctx, ref, out)
}

// ImageImport makes an image of a tar stream, or of what a URL leads to if in is
// nil, and says through out how it gets on.
func (e *Engine) ImageImport(ctx context.Context, o api.ImportOptions, in io.Reader, out func(jsonstream.Message)) error {
	name, err := own.ParseName(o.Repo, o.Tag)
	if err != nil {
		return err
	}
	n := own.New{Platform: ocispec.Platform{OS: "linux", Architecture: goruntime.GOARCH}, Comment: o.Message, Name: name}
	if o.Platform != nil {
		if o.Platform.OS != "linux" {
			return errdefs.New(errdefs.InvalidArgument, "%q: operating system is not supported", o.Platform.OS)
		}
		n.Platform = *o.Platform
		if n.Platform.Architecture == "" {
			n.Platform.Architecture = goruntime.GOARCH
		}
	}
	if n.Comment == "" {
		n.Comment = "Imported from " + o.Source
	}
	if n.Config, err = changed(dockerspec.DockerOCIImageConfig{}, o.Changes); err != nil {
		return err
	}
	if o.Source != "-" {
		r, err := own.Download(ctx, o.Source, out)
		if err != nil {
			return err
		}
		defer r.Close()
		in = r
	}
	id, err := e.images.Import(ctx, n, in)
	if err != nil {
		return err
	}
	text := e.named(id, name)
	if text == "" {
		text = id.String()
	}
	e.imageEvent(events.ActionImport, id.String(), text)
	out(jsonstream.Message{Status: id.String()})
	return nil
}
