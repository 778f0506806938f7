package engine

import (
	"context"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/union"
)

// ContainerLayers lists the branches of a running container's root, topmost first.
func (e *Engine) ContainerLayers(ctx context.Context, ref string) ([]api.ContainerBranch, error) {
	var list []layer.Branch
	err := e.containers.Branches().Of(ctx, ref, func(l *layer.Live) (err error) {
		list, err = l.Branches()
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make([]api.ContainerBranch, len(list))
	for i, b := range list {
		all[i] = api.ContainerBranch{Dir: b.Dir, Perm: b.PermString(), Part: string(b.Part), Image: e.imageOfChain(ctx, b.Chain)}
	}
	return all, nil
}

// imageOfChain names an image whose layers are a chain, "" if it is gone.
func (e *Engine) imageOfChain(ctx context.Context, id layer.ChainID) string {
	if id == "" {
		return ""
	}
	list, err := e.images.List(ctx)
	if err != nil {
		return ""
	}
	for _, img := range list {
		switch {
		case img.Chain != id:
		case len(img.RepoTags) > 0:
			return img.RepoTags[0]
		default:
			return img.ID.String()
		}
	}
	return ""
}

// AddContainerLayer adds the layers of an image, or a directory of the host, to a
// running container's root.
func (e *Engine) AddContainerLayer(ctx context.Context, c api.BranchChange) error {
	create, err := placementOf(c.Create)
	if err != nil {
		return err
	}
	if (c.Image == "") == (c.Dir == "") {
		return errdefs.New(errdefs.InvalidArgument, "either Image or Dir says what comes to container %s", c.Container)
	}
	if c.Index < -1 {
		return errdefs.New(errdefs.InvalidArgument, "Index %d is neither a place, 0 being on top, nor -1 for the bottom", c.Index)
	}
	add, err := e.addition(ctx, c)
	if err != nil {
		return err
	}
	return e.containers.Branches().Of(ctx, c.Container, func(l *layer.Live) error {
		if err := add(l); err != nil || create == nil {
			return err
		}
		return l.SetCreate(*create)
	})
}

// addition is what is to be done with a root, once all that can be wrong with the
// request is known.
func (e *Engine) addition(ctx context.Context, c api.BranchChange) (func(*layer.Live) error, error) {
	if c.Dir != "" {
		b, err := branchOf(c.Dir, c.Perm)
		return func(l *layer.Live) error { return l.AddDir(c.Index, b) }, err
	}
	if c.Perm != "" {
		return nil, errdefs.New(errdefs.InvalidArgument, "the layers of an image are not written to: Perm is for directories")
	}
	img, err := e.images.Resolve(ctx, c.Image)
	if err != nil {
		return nil, err
	}
	if img.Chain == "" {
		return nil, errdefs.New(errdefs.InvalidArgument, "image %s has no layers", c.Image)
	}
	return func(l *layer.Live) error { return l.AddChain(c.Index, img.Chain) }, nil
}

// ModifyContainerLayer changes what may be done with a directory that was added,
// and where something new is made.
func (e *Engine) ModifyContainerLayer(ctx context.Context, c api.BranchChange) error {
	create, err := placementOf(c.Create)
	if err != nil {
		return err
	}
	var b union.Branch
	switch {
	case c.Image != "":
		return errdefs.New(errdefs.InvalidArgument, "the layers of an image stay read-only: only directories change")
	case c.Dir == "" && create == nil:
		return errdefs.New(errdefs.InvalidArgument, "nothing is to change: Dir and Perm, or Create, say what")
	case c.Dir != "" && c.Perm == "":
		return errdefs.New(errdefs.InvalidArgument, "Perm says what may be done with %s: rw, ro or rr", c.Dir)
	case c.Dir != "":
		if b, err = branchOf(c.Dir, c.Perm); err != nil {
			return err
		}
	}
	return e.containers.Branches().Of(ctx, c.Container, func(l *layer.Live) error {
		if c.Dir != "" {
			if err := l.ModifyDir(b); err != nil {
				return err
			}
		}
		if create == nil {
			return nil
		}
		return l.SetCreate(*create)
	})
}

// RemoveContainerLayer takes away what AddContainerLayer has brought: the layers of
// an image, or a directory.
func (e *Engine) RemoveContainerLayer(ctx context.Context, ref, image, dir string) error {
	if (image == "") == (dir == "") {
		return errdefs.New(errdefs.InvalidArgument, "either image or dir says what leaves container %s", ref)
	}
	if dir != "" {
		return e.containers.Branches().Of(ctx, ref, func(l *layer.Live) error { return l.TakeDir(dir) })
	}
	img, err := e.images.Resolve(ctx, image)
	if err != nil {
		return err
	}
	return e.containers.Branches().Of(ctx, ref, func(l *layer.Live) error { return l.TakeChain(img.Chain) })
}

func branchOf(dir, perm string) (union.Branch, error) {
	if perm != "" {
		dir += "=" + perm
	}
	b, err := union.ParseBranch(dir)
	if err != nil {
		return b, errdefs.New(errdefs.InvalidArgument, "%w", err)
	}
	return b, nil
}

// placementOf reads a create policy, nil for "".
func placementOf(s string) (*union.Placement, error) {
	if s == "" {
		return nil, nil
	}
	p, err := union.ParsePlacement(s)
	if err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "%w", err)
	}
	return &p, nil
}
