package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type sendOptions struct {
	platforms []string
	quiet     bool
}

func newImageSendCommand(c *cli) *cobra.Command {
	var o sendOptions
	cmd := &cobra.Command{
		Use:   "send [OPTIONS] IMAGE [IMAGE...] DEST",
		Short: "Bring images to another engine, without the layers that it has",
		Long: `DEST is what -H takes (ssh://user@host, tcp://host:port, unix:///path), a context, or a file
(file:PATH, or a path with a slash), which becomes a whole archive. The images have the same IDs and
digests over there. An engine that is no tared gets all layers.`,
		Args: minArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			last := len(args) - 1
			return runImageSend(ctx, c, cl, o, args[:last], args[last])
		}),
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.platforms, "platform", nil, "Send only the given platforms, such as linux/amd64")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show nothing but errors")
	return cmd
}

func runImageSend(ctx context.Context, c *cli, from *client.Client, o sendOptions, refs []string, dest string) error {
	platforms, err := parsePlatforms(o.platforms)
	if err != nil {
		return err
	}
	if path, ok := fileOf(dest); ok {
		if path == "" {
			return fmt.Errorf("destination %s names no file; \"tare save\" writes to the standard output", safe(dest))
		}
		return named("failed to send image", path, writeArchive(c.out, path, func() (io.ReadCloser, error) { return from.ImageSave(ctx, refs, platforms) }))
	}
	to, err := c.connectTo(dest)
	if err != nil {
		return err
	}
	defer to.Close()
	s := &sending{from: from, to: to, refs: refs, platforms: platforms, notes: c.err, counts: !o.quiet && isScreen(c.out)}
	out := newProgress(c.out, o.quiet)
	s.show = out.Show
	if o.quiet {
		s.notes = io.Discard
	}
	err = errors.Join(s.run(ctx), out.Close())
	if err == nil && !o.quiet {
		_, err = fmt.Fprintln(c.out, s.result())
	}
	return err
}

// fileOf tells a destination that is a file from one that is an engine.
func fileOf(dest string) (path string, ok bool) {
	if path, ok := strings.CutPrefix(dest, "file:"); ok {
		return strings.TrimPrefix(path, "//"), true
	}
	return dest, strings.Contains(dest, "/") && !strings.Contains(dest, "://")
}

// sending are images on their way from one engine to another.
type sending struct {
	from, to  *client.Client
	refs      []string
	platforms []ocispec.Platform
	notes     io.Writer
	counts    bool // show how many bytes have gone

	mu   sync.Mutex // show is called by who reads and by who writes
	show func(jsonstream.Message) error

	layers map[string]int64 // bytes by digest; nil: from cannot tell
	there  map[string]bool  // of them, those that to has; nil: it cannot tell
	sent   int64            // bytes
}

// run sends the images. What is removed over there between question and
// transfer goes in another transfer.
func (s *sending) run(ctx context.Context) error {
	blobs, err := s.blobs(ctx)
	if err != nil {
		return err
	}
	if s.there, err = s.ask(ctx, blobs); errors.Is(err, client.ErrNoIncrements) {
		fmt.Fprintf(s.notes, "The engine at %s is no tared: it gets all layers.\n", safe(s.to.Host()))
	} else if err != nil {
		return err
	}
	const attempts = 3
	for n := 1; ; n++ {
		err := s.transfer(ctx)
		if err == nil || n == attempts || ctx.Err() != nil || len(s.there) == 0 {
			return err
		}
		now, aerr := s.ask(ctx, blobs)
		if aerr != nil || !lost(s.there, now) {
			return err
		}
		fmt.Fprintf(s.notes, "The engine at %s has lost layers meanwhile: they are sent.\n", safe(s.to.Host()))
		s.there = now
	}
}

// blobs asks what the images consist of.
func (s *sending) blobs(ctx context.Context) (list []api.LayerBlob, err error) {
	images, err := s.from.ImageBlobs(ctx, s.refs, s.platforms)
	if errors.Is(err, client.ErrNoIncrements) {
		fmt.Fprintf(s.notes, "The engine at %s is no tared: it sends all layers.\n", safe(s.from.Host()))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.layers = map[string]int64{}
	for _, i := range images {
		for _, l := range i.Layers {
			if _, known := s.layers[l.Digest]; !known {
				s.layers[l.Digest] = l.Size
				list = append(list, l)
			}
		}
	}
	return list, nil
}

// ask asks which of the layers the other engine has.
func (s *sending) ask(ctx context.Context, blobs []api.LayerBlob) (map[string]bool, error) {
	if len(blobs) == 0 {
		return nil, nil
	}
	missing, err := s.to.ImageMissing(ctx, blobs)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, b := range blobs {
		if !slices.Contains(missing, b.Digest) {
			there[b.Digest] = true
		}
	}
	return there, nil
}

// lost reports whether something was there that is not any more.
func lost(before, now map[string]bool) bool {
	for d := range before {
		if !now[d] {
			return true
		}
	}
	return false
}

// transfer sends one archive.
func (s *sending) transfer(ctx context.Context) error {
	archive, err := s.archive(ctx)
	if err != nil {
		return err
	}
	defer archive.Close()
	r := &sendReader{s: s, r: archive, total: s.toSend()}
	err = s.to.ImageLoad(ctx, r, !s.counts, nil, s.report)
	n, source := r.end()
	s.sent += n
	if source != nil && ctx.Err() == nil { // what the other one makes of the end is no news
		return fmt.Errorf("read the images from %s: %w", s.from.Host(), source)
	}
	return err
}

func (s *sending) archive(ctx context.Context) (io.ReadCloser, error) {
	if s.layers == nil {
		return s.from.ImageSave(ctx, s.refs, s.platforms)
	}
	return s.from.ImageSaveIncrement(ctx, api.ImageSaveRequest{
		Images: s.refs, Platforms: s.platforms, Without: slices.Sorted(maps.Keys(s.there)),
	})
}

// toSend is the size of the layers that are not there.
func (s *sending) toSend() (n int64) {
	for d, size := range s.layers {
		if !s.there[d] {
			n += size
		}
	}
	return n
}

func (s *sending) report(m jsonstream.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.show(m)
}

// result says what has gone and what was there.
func (s *sending) result() string {
	if s.layers == nil {
		return "sent " + format.Size(s.sent)
	}
	var all int64
	for _, size := range s.layers {
		all += size
	}
	return fmt.Sprintf("sent %d of %d layers, %s of %s", len(s.layers)-len(s.there), len(s.layers), format.Size(s.toSend()), format.Size(all))
}

// sendReader counts what is read of an archive, and keeps its error.
type sendReader struct {
	s     *sending
	r     io.Reader
	total int64
	said  time.Time

	mu    sync.Mutex // the transport may still read when the answer is there
	ended bool
	n     int64
	err   error
}

func (r *sendReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return n, err
	}
	r.n += int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	if now := time.Now(); r.s.counts && (err != nil || now.Sub(r.said) > 100*time.Millisecond) {
		r.said = now
		_ = r.s.report(jsonstream.Message{ID: "archive", Status: "Sending", Progress: &jsonstream.Progress{Current: r.n, Total: max(r.total, r.n)}})
	}
	return n, err
}

// end returns how much was read, and the error. Nothing is shown from then on.
func (r *sendReader) end() (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	return r.n, r.err
}
