package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/archive"
)

type cpOptions struct {
	archive, follow, quiet bool
	from, to               cpPath
}

// cpPath is one end of a copy: a path of what has a name at the engine or, without a
// name, of this machine.
type cpPath struct{ name, path string }

// remote are the files at the engine that a copy is about.
type remote interface {
	kind() string // what has the names
	stat(ctx context.Context, name, path string) (container.PathStat, error)
	open(ctx context.Context, name, path string) (io.ReadCloser, container.PathStat, error)
	extract(ctx context.Context, name, dir string, archive io.Reader) error
}

// containerFiles are those of containers.
type containerFiles struct {
	cl     *client.Client
	asUser bool
}

func (containerFiles) kind() string { return "container" }

func (f containerFiles) stat(ctx context.Context, name, path string) (container.PathStat, error) {
	return f.cl.ContainerPath(ctx, name, path)
}

func (f containerFiles) open(ctx context.Context, name, path string) (io.ReadCloser, container.PathStat, error) {
	return f.cl.ContainerArchive(ctx, name, path)
}

func (f containerFiles) extract(ctx context.Context, name, dir string, archive io.Reader) error {
	return f.cl.ContainerExtract(ctx, name, dir, archive, f.asUser)
}

// stream is the path that means STDIN or STDOUT.
const stream = "-"

func newCpCommand(c *cli) *cobra.Command {
	var o cpOptions
	cmd := &cobra.Command{
		Use: "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t" + program +
			" cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH\n\t" + program + " cp [OPTIONS] CONTAINER:SRC_PATH CONTAINER:DEST_PATH",
		Short: "Copy files and directories into a container, out of it, or between two",
		Long: `SRC_PATH - reads an archive (tar) from STDIN and unpacks it into the directory DEST_PATH of
the container; DEST_PATH - writes SRC_PATH to STDOUT as an archive.`,
		Args:        exactArgs(2),
		Annotations: aliases("container cp", "cp"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			o.from, o.to = parseCpPath(args[0]), parseCpPath(args[1])
			return c.runCp(ctx, containerFiles{cl, o.archive}, o)
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.archive, "archive", "a", false, "Files brought into a container belong to its user")
	f.BoolVarP(&o.follow, "follow-link", "L", false, "Copy what a link SRC_PATH leads to")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show no progress; without a terminal there is none anyway")
	return cmd
}

// parseCpPath reads NAME:PATH, or a local path: one that is absolute or
// begins with a dot is local even if it has a colon.
func parseCpPath(arg string) cpPath {
	name, p, ok := strings.Cut(arg, ":")
	if !ok || name == "" || filepath.IsAbs(arg) || strings.HasPrefix(arg, ".") {
		return cpPath{path: arg}
	}
	return cpPath{name, p}
}

func (c *cli) runCp(ctx context.Context, there remote, o cpOptions) error {
	x := copying{there: there, cpOptions: o, in: c.in, out: c.out, meter: newMeter(c.err, o.quiet)}
	switch {
	case o.from.name != "" && o.to.name != "":
		return x.between(ctx)
	case o.to.name != "":
		return x.bring(ctx)
	case o.from.name != "":
		return x.take(ctx)
	}
	return fmt.Errorf("must specify at least one %s source", there.kind())
}

// copying is one copy.
type copying struct {
	cpOptions
	there remote
	in    io.Reader
	out   io.Writer
	meter *meter
}

// bring copies from this machine to the engine.
func (x *copying) bring(ctx context.Context) error {
	to, err := x.target(ctx)
	if err != nil {
		return err
	}
	if x.from.path == stream {
		if !to.Dir {
			return fmt.Errorf("destination \"%s:%s\" must be a directory", x.to.name, x.to.path)
		}
		return x.send(ctx, to, to.Path, func(w io.Writer) error { return copyAll(w, x.in) })
	}
	from, err := archive.Find(x.from.path, x.follow)
	if err != nil {
		return err
	}
	dir, name, err := archive.Place(from.Source, to, splitInside)
	if err != nil {
		return err
	}
	return x.send(ctx, to, dir, func(w io.Writer) error { return from.Pack(w, name) })
}

// send has the engine unpack what write writes into a directory of the one at the engine.
func (x *copying) send(ctx context.Context, to archive.Target, dir string, write func(io.Writer) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		b := bufio.NewWriterSize(x.meter.over(w, "Copying to "+x.there.kind()+" - "), cpBuffer)
		err := write(b)
		if err == nil {
			err = b.Flush()
		}
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			cancel(err) // the engine must not take what there is for all
		}
		w.CloseWithError(err)
		written <- err
	}()
	err := x.there.extract(ctx, x.to.name, dir, r)
	r.CloseWithError(io.ErrClosedPipe)
	if werr := <-written; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		err = werr
	}
	x.meter.clear()
	if err == nil {
		x.meter.done(x.to.name + ":" + to.Path)
	}
	return err
}

// cpBuffer is how much of an archive is written at once.
const cpBuffer = 256 << 10

func copyAll(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, cpBuffer))
	return err
}

// target finds out what is at the engine's path. Whatever goes wrong here shows
// again when something is brought there.
func (x *copying) target(ctx context.Context) (archive.Target, error) {
	to := archive.Target{Path: x.to.path}
	st, err := x.there.stat(ctx, x.to.name, to.Path)
	if err == nil && st.Mode&fs.ModeSymlink != 0 {
		to.Path = leadsTo(to.Path, st)
		st, err = x.there.stat(ctx, x.to.name, to.Path)
	}
	if err != nil {
		return to, ctx.Err()
	}
	if what := deviceLike(st.Mode); what != "" {
		return to, fmt.Errorf("destination \"%s:%s\" must be a directory or a regular file: got %s", x.to.name, x.to.path, what)
	}
	to.Exists, to.Dir = true, st.Mode.IsDir()
	return to, nil
}

// leadsTo is where a link at the engine leads.
func leadsTo(p string, st container.PathStat) string {
	if path.IsAbs(st.LinkTarget) {
		return st.LinkTarget
	}
	return path.Join(path.Dir(p), st.LinkTarget)
}

func deviceLike(m fs.FileMode) string {
	switch {
	case m&fs.ModeDevice != 0:
		return "a device"
	case m&fs.ModeIrregular != 0:
		return "an irregular file"
	}
	return ""
}

// splitInside cuts the last component off a path at the engine.
func splitInside(p string) (dir, base string) {
	p = path.Clean(p)
	return path.Dir(p), path.Base(p)
}

// take copies from the engine to this machine.
func (x *copying) take(ctx context.Context) error {
	if x.to.path != stream {
		if err := checkOutput(x.to.path); err != nil {
			return err
		}
	}
	in, from, err := x.source(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	if x.to.path == stream {
		return archive.Rename(x.out, in, from.Name, from.Called())
	}
	to, err := archive.FindTarget(x.to.path)
	if err != nil {
		return err
	}
	dir, name, err := archive.Place(from, to, archive.Split)
	if err != nil {
		return err
	}
	err = archive.Unpack(x.meter.from(in, "Copying from "+x.there.kind()+" - "), dir, from.Name, name)
	x.meter.clear()
	if err == nil {
		x.meter.done(to.Path)
	}
	return err
}

// source opens the archive of the engine's path.
func (x *copying) source(ctx context.Context) (io.ReadCloser, archive.Source, error) {
	p := x.from.path
	from := archive.Source{}
	if x.follow {
		st, err := x.there.stat(ctx, x.from.name, p)
		if err == nil && st.Mode&fs.ModeSymlink != 0 {
			from.As = path.Base(p)
			p = leadsTo(p, st)
		}
	}
	in, st, err := x.there.open(ctx, x.from.name, p)
	if err != nil {
		return nil, from, err
	}
	from.Name, from.Dir = st.Name, st.Mode.IsDir()
	return in, from, nil
}

// checkOutput refuses a local path that nothing can be copied to, before the
// engine is asked for it.
func checkOutput(p string) error {
	full, err := filepath.Abs(p)
	if err != nil {
		return err
	}
	if dir := filepath.Dir(full); dir != "" {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("invalid output path: directory %q does not exist", dir)
		}
	}
	st, err := os.Stat(full)
	if err != nil {
		return nil
	}
	if what := deviceLike(st.Mode()); what != "" {
		return fmt.Errorf("invalid output path: %q must be a directory or a regular file: got %s", full, what)
	}
	return nil
}

// between copies from one at the engine to another, or to another place of the same.
func (x *copying) between(ctx context.Context) error {
	to, err := x.target(ctx)
	if err != nil {
		return err
	}
	in, from, err := x.source(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	dir, name, err := archive.Place(from, to, splitInside)
	if err != nil {
		return err
	}
	if from.Dir && x.from.name == x.to.name && insideItself(x.from.path, path.Join(dir, name)) {
		return fmt.Errorf("cannot copy the directory \"%s:%s\" into itself", x.from.name, x.from.path)
	}
	return x.send(ctx, to, dir, func(w io.Writer) error { return archive.Rename(w, in, from.Name, name) })
}

// insideItself reports whether a path at the engine is another one or lies below it: such
// a copy would meet what it has brought, over and over.
func insideItself(from, to string) bool {
	from, to = path.Join("/", from), path.Join("/", to)
	return to == from || strings.HasPrefix(to, strings.TrimSuffix(from, "/")+"/")
}
