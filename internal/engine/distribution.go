package engine

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	regtypes "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/registry"
)

// Distribution is what the engine does with registries.
type Distribution struct {
	registries *registry.Client
	images     *image.Service
	events     *event.Log
	live       atomic.Pointer[Live]
}

// repository opens a repository with the credentials that the client sent.
func (d *Distribution) repository(ref reference.Named, auth *regtypes.AuthConfig) *registry.Repository {
	return d.registries.Repository(ref, credentials(auth))
}

func credentials(a *regtypes.AuthConfig) *registry.Credentials {
	if a == nil || *a == (regtypes.AuthConfig{ServerAddress: a.ServerAddress}) {
		return nil
	}
	return &registry.Credentials{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
}

// parseRepo reads a reference in the two parts that the Engine API has.
func parseRepo(repo, tag string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil || tag == "" {
		return ref, errdefs.As(errdefs.InvalidArgument, err)
	}
	ref = reference.TrimNamed(ref)
	if d, err := digest.Parse(tag); err == nil {
		ref, err := reference.WithDigest(ref, d)
		return ref, errdefs.As(errdefs.InvalidArgument, err)
	}
	tagged, err := reference.WithTag(ref, tag)
	return tagged, errdefs.As(errdefs.InvalidArgument, err)
}

// ImagePull fetches an image, or those of all tags if none is given.
func (d *Distribution) ImagePull(ctx context.Context, o api.PullOptions, out func(jsonstream.Message)) error {
	ref, err := parseRepo(o.Repo, o.Tag)
	if err != nil {
		return err
	}
	if reference.FamiliarName(ref) == "scratch" {
		return errdefs.New(errdefs.Forbidden, "'scratch' is a reserved name")
	}
	from := d.repository(ref, o.Auth)
	if !reference.IsNameOnly(ref) {
		return d.pull(ctx, ref, from, o.Platform, out)
	}
	tags, err := from.Tags(ctx)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		tagged, err := reference.WithTag(ref, tag)
		if err != nil {
			return errdefs.As(errdefs.InvalidArgument, err)
		}
		if err := d.pull(ctx, tagged, from, o.Platform, out); err != nil {
			return err
		}
	}
	return nil
}

func (d *Distribution) pull(ctx context.Context, ref reference.Named, from *registry.Repository, platform *ocispec.Platform, out func(jsonstream.Message)) error {
	p, err := d.images.Pull(ctx, ref, from, image.PullOptions{
		Platform: platform, Foreign: d.takesForeign(ref), Out: out,
	})
	if err != nil {
		return err
	}
	d.images.Touch(p.ID)
	d.imageEvent(events.ActionPull, p.Name, reference.FamiliarName(ref))
	return nil
}

func (d *Distribution) takesForeign(ref reference.Named) bool {
	return slices.Contains(d.live.Load().Foreign, reference.Domain(ref))
}

// loaded says that an image has come in, by an archive or from another engine.
func (d *Distribution) loaded(id image.ID, name string) {
	d.images.Touch(id)
	d.imageEvent(events.ActionLoad, id.String(), name)
}

func (d *Distribution) imageEvent(action events.Action, id, name string) {
	attrs := map[string]string{}
	if name != "" {
		attrs["name"] = name
	}
	d.events.Publish(events.ImageEventType, action, id, attrs)
}

// ImagePush sends an image, or all of the repository if no tag is given.
func (d *Distribution) ImagePush(ctx context.Context, o api.PushOptions, out func(jsonstream.Message)) error {
	ref, err := parseRepo(o.Repo, o.Tag)
	if err != nil {
		return err
	}
	if _, ok := ref.(reference.Digested); ok {
		return errdefs.New(errdefs.InvalidArgument, "cannot push a digest reference")
	}
	var all []reference.NamedTagged
	if t, ok := ref.(reference.NamedTagged); ok {
		all = append(all, t)
	}
	if len(all) == 0 {
		for _, tag := range d.images.Tags(ref) {
			t, err := reference.WithTag(ref, tag)
			if err != nil {
				return errdefs.As(errdefs.Internal, err)
			}
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return errdefs.New(errdefs.NotFound, "An image does not exist locally with the tag: %s", reference.FamiliarName(ref))
	}
	to := d.repository(ref, o.Auth)
	out(jsonstream.Message{Status: "The push refers to repository [" + ref.Name() + "]"})
	for _, t := range all {
		p := image.PushOptions{Platform: o.Platform, Foreign: d.takesForeign(ref), Uploads: d.live.Load().Uploads, Out: out}
		if err := d.images.Push(ctx, t, to, p); err != nil {
			return err
		}
		d.imageEvent(events.ActionPush, reference.FamiliarString(t), reference.FamiliarName(t))
	}
	return nil
}

// RegistryLogin tries credentials at a registry.
func (d *Distribution) RegistryLogin(ctx context.Context, auth regtypes.AuthConfig) (regtypes.AuthResponse, error) {
	var cred registry.Credentials
	if c := credentials(&auth); c != nil {
		cred = *c
	}
	token, err := d.registries.Login(ctx, auth.ServerAddress, cred)
	if err != nil {
		return regtypes.AuthResponse{}, err
	}
	return regtypes.AuthResponse{Status: "Login Succeeded", IdentityToken: token}, nil
}

// ImageSearch asks a registry's search. The term may begin with the registry's
// name; without one Docker Hub is meant.
func (d *Distribution) ImageSearch(ctx context.Context, o api.SearchOptions) ([]regtypes.SearchResult, error) {
	if err := validate(o.Filters, api.SearchFilters); err != nil {
		return nil, err
	}
	if o.Term == "" {
		return nil, errdefs.New(errdefs.InvalidArgument, `invalid search term "": say what to search for`)
	}
	stars := 0
	for _, s := range o.Filters.Get("stars") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, errdefs.As(errdefs.InvalidArgument, o.Filters.Invalid("stars"))
		}
		stars = max(stars, n)
	}
	official, err := o.Filters.Bool("is-official", false)
	if err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	automated, err := o.Filters.Bool("is-automated", false)
	if err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	host, term := splitTerm(o.Term)
	found, err := d.registries.Search(ctx, host, term, o.Limit, credentials(o.Auth))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(r regtypes.SearchResult) bool {
		return r.StarCount < stars || o.Filters.Has("is-official") && r.IsOfficial != official || o.Filters.Has("is-automated") && automated
	}), nil
}

// splitTerm takes the registry's name off a search term.
func splitTerm(s string) (host, term string) {
	first, rest, ok := strings.Cut(s, "/")
	if ok && (first == "localhost" || strings.ContainsAny(first, ".:")) {
		return first, rest
	}
	return "", s
}

// DistributionInspect tells what a registry has under a name.
func (d *Distribution) DistributionInspect(ctx context.Context, name string, auth *regtypes.AuthConfig) (regtypes.DistributionInspect, error) {
	var found regtypes.DistributionInspect
	ref, err := parseRepo(name, "")
	if err != nil {
		return found, err
	}
	ref = reference.TagNameOnly(ref)
	from := d.repository(ref, auth)
	if found.Descriptor, err = from.Resolve(ctx, image.TagOrDigest(ref)); err != nil {
		return found, err
	}
	found.Platforms, err = platformsOf(ctx, from, found.Descriptor)
	return found, err
}

// platformsOf lists the platforms of an index, or the one of an image.
func platformsOf(ctx context.Context, from *registry.Repository, at ocispec.Descriptor) ([]ocispec.Platform, error) {
	b, err := from.Manifest(ctx, at)
	if err != nil {
		return nil, err
	}
	var m struct {
		Manifests []ocispec.Descriptor
		Config    ocispec.Descriptor
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid manifest %s: %w", at.Digest, err)
	}
	list := []ocispec.Platform{}
	for _, d := range m.Manifests {
		if d.Platform != nil {
			list = append(list, *d.Platform)
		}
	}
	if len(m.Manifests) > 0 || m.Config.Digest == "" {
		return list, nil
	}
	p, err := image.ConfigPlatform(ctx, from, m.Config)
	if err != nil {
		return nil, err
	}
	return append(list, p), nil
}
