package engine

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/container"

	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/image"
)

// ContainerPath describes what is at a path of a container's files.
func (e *Engine) ContainerPath(ctx context.Context, ref, path string) (container.PathStat, error) {
	return e.containers.Copies().Stat(ctx, ref, path)
}

// ContainerArchive writes what is at a path of a container's files as a tar
// stream; told is called first, with what that is, and returns where to.
func (e *Engine) ContainerArchive(ctx context.Context, ref, path string, told func(container.PathStat) (io.Writer, error)) error {
	return e.containers.Copies().Pack(ctx, ref, path, told)
}

// ContainerExtract unpacks a tar stream, which may be compressed, into a directory
// of a container. With keepKinds a directory is not replaced by something else,
// nor the other way round; with asUser all belongs to the container's user.
func (e *Engine) ContainerExtract(ctx context.Context, ref, path string, in io.Reader, keepKinds, asUser bool) error {
	plain, err := image.Decompress(ctx, in)
	if err != nil {
		return err
	}
	defer plain.Close()
	return e.containers.Copies().Unpack(ctx, ref, path, plain, own.UnpackOptions{KeepKinds: keepKinds, AsUser: asUser})
}
