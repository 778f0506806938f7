package layertest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/layer"
)

// attack is an archive of somebody who means harm, applied on a layer that has
// the file "below" and the directory "keep" with the file "f".
type attack struct {
	entries []tar.Header
	data    string   // of each regular file
	cut     int      // bytes that are missing at the end
	tree    []string // what the chain shows then; nil: it is refused
	either  bool     // drivers show other things, none of them harmful
	long    bool     // where whiteouts are files, a name is too long
}

func reg(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
func dir(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
func soft(name, to string) tar.Header {
	return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
}
func hard(name, to string) tar.Header {
	return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
}
func device(name string, kind byte, major, minor int64) tar.Header {
	return tar.Header{Name: name, Typeflag: kind, Devmajor: major, Devminor: minor}
}
func marked(h tar.Header, name, value string) tar.Header {
	h.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
	return h
}

// attacks are the archives. outside is a directory with the file "canary".
func attacks(outside string) map[string]attack {
	up := strings.Repeat("../", 40)
	long := strings.Repeat("n", 255)
	deep := strings.Repeat("d/", 1100)
	below := func(more ...string) []string { return append([]string{"below", "keep", "keep/f"}, more...) }
	inside := strings.TrimPrefix(outside, "/")
	path := func(p string) (all []string) {
		for i, c := range p {
			if c == '/' {
				all = append(all, p[:i])
			}
		}
		return append(all, p)
	}
	return map[string]attack{
		"name goes up":                     {entries: []tar.Header{reg(up + "up")}, tree: below("up")},
		"name goes up in the middle":       {entries: []tar.Header{reg("keep/" + up + "up")}, tree: below("up")},
		"absolute name":                    {entries: []tar.Header{reg(outside + "/canary")}, tree: sorted(below(path(inside + "/canary")...))},
		"link out, then through it":        {entries: []tar.Header{soft("out", outside), reg("out/canary")}},
		"link up, then through it":         {entries: []tar.Header{soft("out", up+inside), reg("out/canary")}},
		"link out, then a directory there": {entries: []tar.Header{soft("out", outside), dir("out/"), reg("out/canary")}, tree: sorted(below("out", "out/canary"))},
		"hard link out":                    {entries: []tar.Header{hard("out", outside+"/canary")}},
		"hard link up":                     {entries: []tar.Header{hard("out", up+inside+"/canary")}},
		"hard link to a link, written to":  {entries: []tar.Header{soft("out", outside+"/canary"), hard("again", "out"), reg("again")}, tree: sorted(below("again", "out"))},
		"hard link to what is below":       {entries: []tar.Header{hard("again", "nothing")}},
		"hard link to a directory":         {entries: []tar.Header{dir("d/"), hard("again", "d")}},
		"hard link to itself":              {entries: []tar.Header{reg("x"), hard("x", "x")}, tree: below("x")},
		"forged whiteout":                  {entries: []tar.Header{device("below", tar.TypeChar, 0, 0)}, either: true},
		"device with big numbers":          {entries: []tar.Header{device("d", tar.TypeBlock, 1<<20, 1<<30)}},
		"whiteout of the directory":        {entries: []tar.Header{reg(".wh..")}},
		"whiteout of the one above":        {entries: []tar.Header{reg("keep/.wh...")}},
		"whiteout of nothing":              {entries: []tar.Header{reg(".wh.")}},
		"whiteout with a way up":           {entries: []tar.Header{reg("keep/" + up + ".wh.below")}, tree: []string{"keep", "keep/f"}},
		"whiteout through a link":          {entries: []tar.Header{soft("out", outside), reg("out/.wh.canary")}, either: true},
		"opaque mark in a link":            {entries: []tar.Header{soft("out", outside), reg("out/.wh..wh..opq")}, either: true},
		"whiteout that is a directory":     {entries: []tar.Header{dir(".wh.below/"), reg(".wh.below/x")}},
		"attributes of overlayfs":          {entries: []tar.Header{marked(dir("keep/"), "trusted.overlay.opaque", "y"), marked(dir("r/"), "trusted.overlay.redirect", "/keep"), marked(reg("m"), "trusted.overlay.metacopy", ""), marked(dir("u/"), "user.overlay.opaque", "y")}, tree: sorted(below("m", "r", "u"))},
		"one name, many kinds":             {entries: []tar.Header{reg("x"), dir("x/"), reg("x/y"), soft("x", outside), reg("x")}, tree: below("x")},
		"a file, then what is in it":       {entries: []tar.Header{reg("x"), reg("x/y")}},
		"name of 255 bytes":                {entries: []tar.Header{reg(long)}, tree: below(long), long: true},
		"name of 256 bytes":                {entries: []tar.Header{reg(long + "n")}},
		"whiteout of a name of 255 bytes":  {entries: []tar.Header{reg(".wh." + long)}, tree: below(), long: true},
		"1,100 directories deep":           {entries: []tar.Header{reg(deep + "x")}},
		"link of 5,000 bytes":              {entries: []tar.Header{soft("l", strings.Repeat("x/", 2500))}},
		"owner beyond 32 bits":             {entries: []tar.Header{{Name: "o", Typeflag: tar.TypeReg, Uid: 1 << 33}}},
		"cut in the middle":                {entries: []tar.Header{reg("a"), reg("b")}, data: strings.Repeat("x", 5000), cut: 6000},
		"unknown kind":                     {entries: []tar.Header{{Name: "v", Typeflag: 'V'}}},
	}
}

func sorted(list []string) []string {
	// As filepath.WalkDir has it: a directory's content right behind it.
	out := append([]string{}, list...)
	less := func(a, b string) bool { return strings.ReplaceAll(a, "/", "\x00") < strings.ReplaceAll(b, "/", "\x00") }
	for i := range out {
		for j := i; j > 0 && less(out[j], out[j-1]); j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

func (a attack) tar(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range a.entries {
		h.Mode, h.ModTime, h.Format = 0o755, stamp, tar.FormatPAX
		if h.Devmajor > 0 {
			h.Format = tar.FormatGNU
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(a.data))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, a.data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()[:b.Len()-a.cut]
}

// testHostile applies archives that try to reach what is not theirs: the layer
// below, the directory around. What is refused leaves nothing.
func testHostile(t *testing.T, s *site) {
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/canary", []byte("sings"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := s.apply(t, []File{{Name: "below", Data: "1"}, {Name: "keep/"}, {Name: "keep/f", Data: "2"}})
	before := merkle(t, outside)
	for name, a := range attacks(outside) {
		if a.long && s.Driver() == branches {
			a.tree = nil
		}
		s.attack(t, name, base, a)
		if merkle(t, outside) != before {
			t.Fatalf("%s: reached what is outside", name)
		}
		s.unchanged(t)
	}
	testBomb(t, s, base)
}

func (s *site) attack(t *testing.T, name string, base layer.ChainID, a attack) {
	t.Helper()
	b := a.tar(t)
	diff := digest.FromBytes(b)
	chain, err := s.Apply(context.Background(), base, diff, bytes.NewReader(b))
	if a.either && err == nil {
		return
	}
	if a.tree == nil {
		if !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
		if s.Has(layer.Chain(base, diff)) {
			t.Errorf("%s: is there", name)
		}
		s.nothingStaged(t)
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	v, err := s.View(context.Background(), chain)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	root := fmt.Sprintf("/proc/self/fd/%d", v.Fd())
	if got := tree(t, root); !equalLists(got, withoutMountpoints(append([]string{}, a.tree...))) {
		t.Errorf("%s: shows %q, want %q", name, got, a.tree)
	}
	for _, p := range tree(t, root) {
		for _, attribute := range []string{"trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.opaque"} {
			if n, err := syscall.Getxattr(filepath.Join(root, p), attribute, nil); err == nil {
				t.Errorf("%s: %s has %s of %d bytes", name, p, attribute, n)
			}
		}
	}
}

func equalLists(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

func (s *site) nothingStaged(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(s.root, "layers", s.Driver(), "staging"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in staging: %v, %v", left, err)
	}
}

// sparse is an archive with one file of size bytes, all of it a hole, in GNU's old
// form, which archive/tar reads and does not write.
func sparse(size int64) []byte {
	b := make([]byte, 3*512)
	field := func(at int, s string) { copy(b[at:], s) }
	number := func(at int, n int64) { // base 256, of 12 bytes
		b[at] = 0x80
		binary.BigEndian.PutUint64(b[at+4:], uint64(n))
	}
	field(0, "hole")
	field(100, "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	field(148, "        S")
	field(257, "ustar  \x00")
	number(386, size) // the one piece of data is at the end, and empty
	number(483, size)
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	field(148, fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// testBomb: holes cost nothing to write down and much to read, and a file of
// zeros unpacks to a hole.
func testBomb(t *testing.T, s *site, base layer.ChainID) {
	if h, err := tar.NewReader(bytes.NewReader(sparse(1 << 20))).Next(); err != nil || h.Name != "hole" || h.Size != 1<<20 {
		t.Fatalf("no archive: %+v, %v", h, err)
	}
	hole := sparse(1 << 50)
	if _, err := s.Apply(context.Background(), base, digest.FromBytes(hole), bytes.NewReader(hole)); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("a petabyte of hole: %v", err)
	}
	s.nothingStaged(t)
	r, w := io.Pipe()
	go func() {
		h := tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Mode: 0o600, Size: 1 << 50}
		tw := tar.NewWriter(w)
		err := tw.WriteHeader(&h)
		zeros := make([]byte, 1<<20)
		for err == nil {
			_, err = tw.Write(zeros)
		}
	}()
	_, err := s.Apply(context.Background(), base, digest.FromString("bomb"), io.LimitReader(r, 64<<20))
	r.Close()
	if err == nil {
		t.Error("a petabyte of zeros is a layer")
	}
	s.nothingStaged(t)
}
