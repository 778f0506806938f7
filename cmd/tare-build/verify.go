package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"
	exptypes "github.com/moby/buildkit/exporter/exptypes"
	"github.com/moby/buildkit/util/progress/progressui"
)

// verify builds twice without the cache, and fails if the images differ, saying in
// which files. Nothing of them is kept, here or in the engine's images: they pass by
// as archives.
func (o *request) verify(ctx context.Context, c *bkclient.Client, s *bkclient.SolveOpt, mode progressui.DisplayMode) error {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	var both [2]map[string]*pictured
	for i := range both {
		var err error
		if both[i], err = o.picture(ctx, c, s, mode, now); err != nil {
			return err
		}
	}
	n := 0
	for _, platform := range slices.Sorted(maps.Keys(both[0])) {
		b := both[1][platform]
		if b == nil {
			return fmt.Errorf("the second build has no image for %s", platform)
		}
		n += compare(os.Stdout, both[0][platform], b)
	}
	switch n {
	case 0:
	case 1:
		return errors.New("two builds of the same differ: 1 difference")
	default:
		return fmt.Errorf("two builds of the same differ: %d differences", n)
	}
	if mode != progressui.QuietMode {
		fmt.Fprintln(os.Stderr, "Two builds without the cache gave the same files.")
	}
	return nil
}

// picture builds without the cache and looks at what comes out. Times after now are
// now's, if the sources have no time: those of two builds differ in any case.
func (o *request) picture(ctx context.Context, c *bkclient.Client, s *bkclient.SolveOpt, mode progressui.DisplayMode, now string) (map[string]*pictured, error) {
	once := *s
	once.FrontendAttrs = maps.Clone(s.FrontendAttrs)
	maps.DeleteFunc(once.FrontendAttrs, func(k, _ string) bool { return strings.HasPrefix(k, "attest:") }) // they tell when it was built
	once.FrontendAttrs["no-cache"] = ""
	once.CacheExports, once.CacheImports, once.Internal, once.Ref = nil, nil, true, ""
	attrs := map[string]string{"compression": "uncompressed"}
	if once.FrontendAttrs[epochAttr] == "" {
		attrs[string(exptypes.OptKeySourceDateEpoch)] = now
	}
	r, w := io.Pipe()
	type result struct {
		images map[string]*pictured
		err    error
	}
	read := make(chan result, 1)
	go func() { // until the build has written, or failed
		images, err := pictureOf(r)
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		read <- result{images, err}
	}()
	once.Exports = []bkclient.ExportEntry{{Type: bkclient.ExporterOCI, Attrs: attrs, Output: func(map[string]string) (io.WriteCloser, error) { return w, nil }}}
	_, err := o.solve(ctx, c, &once, mode)
	w.CloseWithError(err) // nil: its end
	got := <-read
	if err != nil {
		return nil, err
	}
	return got.images, got.err
}
