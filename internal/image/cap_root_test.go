//go:build root

package image_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
)

// noise is data that does not pack.
func noise(seed uint64, n int) string {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return string(b)
}

// apart is an image with a layer of its own of so many bytes, and one that it
// shares.
func apart(name string, seed uint64, n int) imagetest.Image {
	return imagetest.Image{Names: []string{name}, Pack: imagetest.Gzip, Layers: [][]byte{
		imagetest.Layer(map[string]string{"base/": "", "base/file": noise(60_000, 100_000)}),
		imagetest.Layer(map[string]string{"own/": "", "own/data": noise(seed, n), "own/small": name}),
	}}
}

// visible lists what images consist of on disk.
func (s *site) visible() []string {
	blobs, _ := filepath.Glob(filepath.Join(s.root, "content/blobs/sha256/*"))
	layers, _ := filepath.Glob(filepath.Join(s.root, "layers/*/????????????????????????????????*"))
	return append(blobs, layers...)
}

// du is what du(1) says of paths.
func du(paths ...string) (n int64) {
	linked := map[uint64]bool{}
	for _, p := range paths {
		_ = filepath.WalkDir(p, func(p string, _ fs.DirEntry, err error) error {
			var st syscall.Stat_t
			if err == nil && syscall.Lstat(p, &st) == nil && !linked[st.Ino] {
				linked[st.Ino] = st.Nlink > 1 && st.Mode&syscall.S_IFMT != syscall.S_IFDIR
				n += st.Blocks * 512
			}
			return nil
		})
	}
	return n
}

func TestCapIsNeverExceeded(t *testing.T) {
	s := openSite(t, t.TempDir())
	var collected []image.Removed
	used := map[image.ID]bool{}
	bytes := int64(5 << 20)
	s.images.SetCap(image.Cap{
		Bytes: bytes,
		InUse: func(id image.ID) []image.User {
			if used[id] {
				return []image.User{{Container: "c"}}
			}
			return nil
		},
		Collected: func(done []image.Removed) { collected = append(collected, done...) },
	})
	s.load(t, imagetest.Reader(imagetest.OCI(apart("pinned", 1000, 200_000))))
	s.load(t, imagetest.Reader(imagetest.OCI(apart("used", 1001, 200_000))))
	used[s.resolve(t, "used").ID] = true
	if _, err := s.images.Pin(ctx, "pinned", true); err != nil {
		t.Fatal(err)
	}

	var samples int
	var most int64
	stop := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			before := s.visible()
			n := du(before...)
			if slices.Equal(before, s.visible()) { // else it is a sum over two moments
				samples++
				most = max(most, n)
			}
		}
	})
	for i := range 50 {
		name := fmt.Sprintf("i%d", i)
		s.load(t, imagetest.Reader(imagetest.OCI(apart(name, uint64(i), 300_000+10_000*i))))
		if i > 0 {
			s.images.Touch(s.resolve(t, "i0").ID) // stays, for it is used again and again
		}
	}
	close(stop)
	sampler.Wait()
	t.Logf("%d samples, at most %d of %d bytes", samples, most, bytes)
	if samples == 0 || most > bytes || most < bytes/2 {
		t.Errorf("%d samples, at most %d of %d bytes", samples, most, bytes)
	}
	var left []string
	list, err := s.images.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		left = append(left, i.RepoTags...)
	}
	slices.Sort(left)
	for _, want := range []string{"pinned:latest", "used:latest", "i0:latest", "i49:latest"} {
		if !slices.Contains(left, want) {
			t.Errorf("%s is gone: %s", want, left)
		}
	}
	if slices.Contains(left, "i1:latest") || len(left)+gone(collected) != 52 {
		t.Errorf("%d collected, left: %s", gone(collected), left)
	}
	s.whole(t)

	// What does not fit removes nothing.
	before := s.store(t)
	_, err = s.images.Load(ctx, imagetest.Reader(imagetest.OCI(apart("large", 2000, 3<<20))), image.LoadOptions{Quiet: true})
	if !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "image large:latest does not fit: it needs 6.") {
		t.Error(err)
	}
	r := newRemote()
	r.tags["1"] = r.image(apart("", 2000, 6<<20))
	if _, _, err := s.pull(ctx, t, "host/large:1", r, image.PullOptions{}); !errdefs.Is(err, errdefs.Conflict) || len(r.asked) > 1 {
		t.Errorf("%v, asked for %s", err, r.asked)
	}
	if after := s.store(t); !slices.Equal(before, after) {
		t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

func gone(done []image.Removed) (n int) {
	for _, d := range done {
		if d.Untagged != "" {
			n++
		}
	}
	return n
}

func TestUsageIsWhatDuSays(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *site) {
		images := 300
		if s.layers.Driver() == "vfs" {
			images = 20 // each is a copy
		}
		var base image.ID
		for i := 0; i < images; i += 10 {
			var some []imagetest.Image
			for j := i; j < i+10; j++ {
				some = append(some, apart(fmt.Sprintf("i%d", j), uint64(j), 100+j*50))
			}
			some = append(some, everything(t))
			s.load(t, imagetest.Reader(imagetest.OCI(some...)))
		}
		base = s.resolve(t, "i7").ID
		partial := filepath.Join(s.root, "content/partial", strings.Repeat("a", 64))
		if err := os.WriteFile(partial, []byte(noise(1, 200_000)), 0600); err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			t.Helper()
			u, err := s.images.Usage(ctx, func(id image.ID) bool { return id == base })
			if err != nil {
				t.Fatal(err)
			}
			want := du(filepath.Join(s.root, "content"), filepath.Join(s.root, "layers"))
			t.Logf("%s: %d, du %d; needed %d", when, u.Total, want, u.Needed)
			if off := u.Total - want; off*100 > want || off*100 < -want {
				t.Errorf("%s: %d bytes, du says %d", when, u.Total, want)
			}
			if u.Needed < 200_000 || u.Needed > u.Total/5 {
				t.Errorf("%s: needed %d of %d", when, u.Needed, u.Total)
			}
		}
		check("fresh")
		root, d := s.root, s.layers.Driver()
		s.close()
		if d == "overlay" {
			s = openSite(t, root)
			check("after a restart")
		}
	})
}
