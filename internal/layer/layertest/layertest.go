// Package layertest is the contract of storage drivers as a test that each of
// them passes. It needs root.
package layertest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/confine"
)

// Run runs the suite. newDriver makes the driver for a data root. After each test
// all layers are as they were committed. Where failpoints are compiled in, each
// operation is also killed at each of them.
func Run(t *testing.T, newDriver func(t *testing.T, root string) layer.Driver) {
	if operation(t, newDriver) {
		return
	}
	for name, f := range tests() {
		runOne(t, name, f, newDriver)
	}
	if failpoint.Enabled {
		t.Run("KillsLeaveOldOrNew", func(t *testing.T) { testKills(t, newDriver) })
	}
}

// RunSome runs those tests of the suite in which a file system can matter: for a
// driver that has passed all of them on another one.
func RunSome(t *testing.T, newDriver func(t *testing.T, root string) layer.Driver) {
	all := tests()
	for _, name := range []string{
		"FreshContainerHasNoChanges", "MountPointsAreThere", "WhiteoutsHideLowerFiles", "MetadataIsKept", "ChangesAreExact", "ContainersKeepWhatTheyWrote",
		"VolatileContainersMountTwice", "RemoveWhileHeld", "EmptyChain", "ContainersHaveIDsOfTheirOwn", "DiffIsALayer", "ExportIsTheWholeRoot",
		"ViewsAreReadOnly", "UsageIsWhatWasChanged", "SizeIsALimit", "StorageOptionsAreChecked", "InodesStay",
	} {
		runOne(t, name, all[name], newDriver)
	}
}

func runOne(t *testing.T, name string, f func(*testing.T, *site), newDriver func(t *testing.T, root string) layer.Driver) {
	t.Run(name, func(t *testing.T) {
		s := newSite(t, t.TempDir(), newDriver)
		f(t, s)
		s.unchanged(t)
	})
}

func newSite(t *testing.T, root string, newDriver func(t *testing.T, root string) layer.Driver) *site {
	t.Helper()
	s := &site{root: root, hashes: map[layer.ChainID]string{}}
	s.open = func() (*layer.Service, error) {
		s.driver = newDriver(t, root)
		return layer.Open(layer.Config{Root: root, Driver: s.driver})
	}
	s.reopen(t)
	t.Cleanup(s.shut)
	return s
}

func tests() map[string]func(*testing.T, *site) {
	return map[string]func(*testing.T, *site){
		"FreshContainerHasNoChanges":     testFresh,
		"MountPointsAreThere":            testMountpoints,
		"WhiteoutsHideLowerFiles":        testWhiteouts,
		"WhiteoutsSpareTheirOwnLayer":    testOwnWhiteouts,
		"ImpliedDirectoriesInherit":      testImplied,
		"MetadataIsKept":                 testMetadata,
		"ChangesAreExact":                testChanges,
		"ContainersKeepWhatTheyWrote":    testRemount,
		"VolatileContainersMountTwice":   testVolatile,
		"RemoveWhileHeld":                testRemoveHeld,
		"ChainsOutliveTheirImages":       testChainInUse,
		"WrongDiffIDLeavesNothing":       testWrongDiff,
		"StagingAndTrashAreEmptied":      testLeftovers,
		"PruneKeepsWhatIsNeeded":         testPrune,
		"LayersKeepWhatTheyStandOn":      testParents,
		"EmptyChain":                     testEmptyChain,
		"ImageLinksDoNotLeadMountsAside": testLinks,
		"UnpackingHasNoRightsToSpare":    testConfined,
		"ContainersHaveIDsOfTheirOwn":    testOwnIDs,
		"OtherDriversAreNamed":           testOthers,
		"DiffIsALayer":                   testDiff,
		"DiffAppliedIsTheContainer":      testDiffProperty,
		"DiffHasTheContainersIDs":        testDiffOwnIDs,
		"DiffWhileTheContainerWorks":     testDiffWhileItChanges,
		"DeepTreesAreRefused":            testDeepTree,
		"ExportIsTheWholeRoot":           testExport,
		"ViewsAreReadOnly":               testView,
		"UsageIsWhatWasChanged":          testUsage,
		"SizeIsALimit":                   testSize,
		"StorageOptionsAreChecked":       testOptions,
		"ManyLayers":                     testManyLayers,
		"HostileArchivesStayInside":      testHostile,
		"AllAtOnce":                      testAllAtOnce,
		"InodesStay":                     testInodes,
	}
}

type site struct {
	*layer.Service
	root   string
	open   func() (*layer.Service, error)
	driver layer.Driver             // of the last open
	hashes map[layer.ChainID]string // of the layers that came
}

// shut closes the store, unless that was done.
func (s *site) shut() {
	if s.Service != nil {
		s.Close()
		s.Service = nil
	}
}

func (s *site) reopen(t *testing.T) {
	t.Helper()
	s.shut()
	var err error
	if s.Service, err = s.open(); err != nil {
		t.Fatal(err)
	}
}

// File is an entry of a test layer.
type File struct {
	Name     string // a directory ends with a slash
	Data     string
	Link     string // target of a symbolic link
	Hard     string // target of a hard link
	Mode     int64
	UID      int
	Xattrs   map[string]string
	Modified time.Time
}

var stamp = time.Unix(1700000000, 123456789)

// Tar makes a layer.
func Tar(t testing.TB, files ...File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{
			Name: f.Name, Mode: f.Mode, Uid: f.UID, Gid: f.UID, Size: int64(len(f.Data)), ModTime: f.Modified,
			Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{},
		}
		if h.ModTime.IsZero() {
			h.ModTime = stamp
		}
		for k, v := range f.Xattrs {
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		switch {
		case f.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		case f.Hard != "":
			h.Typeflag, h.Linkname = tar.TypeLink, f.Hard
		case strings.HasSuffix(f.Name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if f.Mode == 0 {
			h.Mode = 0644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0755
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// apply makes a chain of layers.
func (s *site) apply(t *testing.T, layers ...[]File) layer.ChainID {
	t.Helper()
	var chain layer.ChainID
	for _, files := range layers {
		b := Tar(t, files...)
		var err error
		if chain, err = s.Apply(context.Background(), chain, digest.FromBytes(b), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		s.remember(t, chain)
	}
	return chain
}

// container prepares and mounts a container and returns a path to its root.
func (s *site) container(t *testing.T, id string, chain layer.ChainID, o layer.Options) string {
	t.Helper()
	if err := s.Prepare(context.Background(), id, chain, o); err != nil {
		t.Fatal(err)
	}
	return s.mount(t, id)
}

func (s *site) mount(t *testing.T, id string) string {
	t.Helper()
	m, err := s.Mount(context.Background(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return fmt.Sprintf("/proc/self/fd/%d", m.Fd())
}

func (s *site) changes(t *testing.T, id string) []string {
	t.Helper()
	list, err := s.Changes(context.Background(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range list {
		out = append(out, string("CAD"[c.Kind])+" "+c.Path)
	}
	return out
}

// tree lists what is below dir, without the engine's mount points.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir+"/.", func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if rel != "." {
			list = append(list, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return withoutMountpoints(list)
}

func withoutMountpoints(list []string) []string {
	skip := []string{".dockerenv", "dev", "etc", "proc", "sys"}
	return slices.DeleteFunc(list, func(p string) bool { return slices.Contains(skip, strings.SplitN(p, "/", 2)[0]) })
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func testFresh(t *testing.T, s *site) {
	chain := s.apply(t,
		[]File{{Name: "./", Mode: 0711, UID: 7}, {Name: "etc/", Mode: 0750, UID: 3}, {Name: "etc/passwd", Data: "x"}, {Name: "bin/sh", Data: "y"}})
	root := s.container(t, "c", chain, layer.Options{})
	equal(t, s.changes(t, "c"))
	for p, want := range map[string]struct {
		mode os.FileMode
		uid  uint32
	}{".": {0711, 7}, "etc": {0750, 3}} {
		info, err := os.Stat(filepath.Join(root, p) + "/.")
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != want.mode || st.Uid != want.uid || !info.ModTime().Equal(stamp) {
			t.Errorf("%s: mode %v, owner %d, time %v", p, info.Mode(), st.Uid, info.ModTime())
		}
	}
}

func testMountpoints(t *testing.T, s *site) {
	root := s.container(t, "c", s.apply(t, []File{{Name: "a"}}), layer.Options{})
	for _, p := range []string{"dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv"} {
		if info, err := os.Lstat(root + "/" + p); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, p := range []string{"dev/pts", "dev/shm", "proc", "sys"} {
		if info, err := os.Lstat(root + "/" + p); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", p, err)
		}
	}
	if to, _ := os.Readlink(root + "/etc/mtab"); to != "/proc/mounts" {
		t.Errorf("etc/mtab leads to %q", to)
	}
}

func testWhiteouts(t *testing.T, s *site) {
	base := []File{{Name: "a/"}, {Name: "a/1"}, {Name: "a/2"}, {Name: "b/"}, {Name: "b/1"}, {Name: "b/sub/"}, {Name: "b/sub/x"}, {Name: "c"}, {Name: "d/"}, {Name: "d/x"}}
	chain := s.apply(t, base,
		[]File{{Name: "a/.wh.1"}, {Name: "b/"}, {Name: "b/.wh..wh..opq"}, {Name: "b/new"}, {Name: ".wh.c"}, {Name: ".wh.d"}, {Name: ".wh..wh.plnk/"}, {Name: ".wh.nothing"}},
		[]File{{Name: "d/"}, {Name: "d/again"}})
	m, err := s.View(context.Background(), chain)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	equal(t, tree(t, fmt.Sprintf("/proc/self/fd/%d", m.Fd())), "a", "a/2", "b", "b/new", "d", "d/again")
	if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/x", m.Fd()), nil, 0600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write into a view: %v", err)
	}
}

func testOwnWhiteouts(t *testing.T, s *site) {
	base := []File{{Name: "a/"}, {Name: "a/old"}, {Name: "b/"}, {Name: "b/old"}, {Name: "c/"}, {Name: "c/old"}}
	chain := s.apply(t, base, []File{
		{Name: "a/new"}, {Name: ".wh.a"}, // the whiteout after what is new
		{Name: ".wh.b"}, {Name: "b/new"}, // and before
		{Name: "c/new"}, {Name: "c/.wh..wh..opq"}, {Name: "c/newer"}})
	root := s.container(t, "c", chain, layer.Options{})
	equal(t, tree(t, root), "a", "a/new", "b", "b/new", "c", "c/new", "c/newer")
}

func testImplied(t *testing.T, s *site) {
	chain := s.apply(t,
		[]File{{Name: "./", Mode: 0751, UID: 5}, {Name: "a/", Mode: 0700, UID: 9}, {Name: "a/b/", Mode: 01777}},
		[]File{{Name: "a/b/file"}})
	root := s.container(t, "c", chain, layer.Options{})
	for p, want := range map[string]os.FileMode{"a": 0700 | os.ModeDir, "a/b": 0777 | os.ModeSticky | os.ModeDir, ".": 0751 | os.ModeDir} {
		if info, err := os.Stat(root + "/" + p); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
}

func testMetadata(t *testing.T, s *site) {
	chain := s.apply(t, []File{
		{Name: "f", Data: "data", Mode: 04755, UID: 1000, Xattrs: map[string]string{"user.a": "b", "trusted.mine": "m", "trusted.overlay.opaque": "y", "security.evil": "x"}},
		{Name: "hard", Hard: "f"}, {Name: "soft", Link: "f"}, {Name: "d/", Mode: 02775}})
	root := s.container(t, "c", chain, layer.Options{})
	info, err := os.Stat(root + "/f")
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode() != 0755|os.ModeSetuid || st.Uid != 1000 || st.Nlink != 2 || !info.ModTime().Equal(stamp) {
		t.Errorf("f: %v, owner %d, %d links, %v", info.Mode(), st.Uid, st.Nlink, info.ModTime())
	}
	b := make([]byte, 8)
	if n, err := syscall.Getxattr(root+"/f", "user.a", b); err != nil || string(b[:n]) != "b" {
		t.Errorf("user.a: %q, %v", b[:max(n, 0)], err)
	}
	if n, err := syscall.Getxattr(root+"/f", "trusted.mine", b); err != nil || string(b[:n]) != "m" {
		t.Errorf("trusted.mine: %q, %v", b[:max(n, 0)], err)
	}
	if _, err := syscall.Getxattr(root+"/f", "security.evil", b); err == nil {
		t.Error("security.evil was kept")
	}
	if info, err := os.Lstat(root + "/d"); err != nil || info.Mode() != os.ModeDir|os.ModeSetgid|0775 || !info.ModTime().Equal(stamp) {
		t.Errorf("d: %v, %v", info, err)
	}
}

func testChanges(t *testing.T, s *site) {
	chain := s.apply(t, []File{{Name: "a/"}, {Name: "a/del"}, {Name: "a/mod", Data: "1"}, {Name: "b/"}, {Name: "b/x"}, {Name: "keep/"}, {Name: "keep/f"}, {Name: "gone/"}, {Name: "gone/f"}})
	root := s.container(t, "c", chain, layer.Options{})
	checkData(t, s, "c", chain)
	for _, err := range []error{
		os.Remove(root + "/a/del"), os.WriteFile(root+"/a/mod", []byte("22"), 0600), os.WriteFile(root+"/a/add", nil, 0600),
		os.RemoveAll(root + "/b"), os.Mkdir(root+"/b", 0755), os.WriteFile(root+"/b/y", nil, 0600),
		os.RemoveAll(root + "/gone"), os.Link(root+"/keep/f", root+"/keep/g"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := s.changes(t, "c")
	// A hard link changes no byte of the other name; copying it up is not seen by all drivers.
	got = slices.DeleteFunc(got, func(c string) bool { return c == "C /keep/f" })
	equal(t, got, "C /a", "A /a/add", "D /a/del", "C /a/mod", "C /b", "D /b/x", "A /b/y", "D /gone", "C /keep", "A /keep/g")
}

// checkData: where the parts of a container lie is said by stacked drivers
// only, and they are there.
func checkData(t *testing.T, s *site, id string, chain layer.ChainID) {
	t.Helper()
	data := s.Data(context.Background(), id)
	if s.Driver() != "overlay" {
		if data != nil || s.ChainData(chain) != nil {
			t.Errorf("data: %v, %v", data, s.ChainData(chain))
		}
		return
	}
	if data["ID"] != id || data["LowerDir"] == "" {
		t.Errorf("data: %v", data)
	}
	for _, dir := range append(strings.Split(data["LowerDir"], ":"), data["UpperDir"], data["WorkDir"], s.ChainData(chain)["UpperDir"]) {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			t.Errorf("data names %q: %v", dir, err)
		}
	}
	if s.Data(context.Background(), "nobody") != nil {
		t.Error("data of nobody")
	}
}

func testRemount(t *testing.T, s *site) {
	chain := s.apply(t, []File{{Name: "a"}})
	root := s.container(t, "c", chain, layer.Options{})
	if err := os.WriteFile(root+"/new", []byte("x"), 0600); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	if b, err := os.ReadFile(s.mount(t, "c") + "/new"); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	equal(t, s.Containers(), "c")
}

func testVolatile(t *testing.T, s *site) {
	chain := s.apply(t, []File{{Name: "a"}})
	for range 2 {
		root := s.container(t, "c", chain, layer.Options{Volatile: true})
		if err := os.WriteFile(root+"/new", nil, 0600); err != nil {
			t.Fatal(err)
		}
	}
	s.reopen(t)
	s.mount(t, "c")
}

func testRemoveHeld(t *testing.T, s *site) {
	root := s.container(t, "c", s.apply(t, []File{{Name: "a"}}), layer.Options{})
	f, err := os.Create(root + "/held")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		if err := s.Remove(context.Background(), "c"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.root, "containers", "c")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("container's directory: %v", err)
	}
	if _, err := s.Mount(context.Background(), "c", nil); err == nil {
		t.Error("mounted after its removal")
	}
	s.container(t, "c", "", layer.Options{}) // the name is free
}

func testChainInUse(t *testing.T, s *site) {
	chain := s.apply(t, []File{{Name: "a"}}, []File{{Name: "b"}})
	s.container(t, "c", chain, layer.Options{})
	s.reopen(t)
	if err := s.Prune(nil); err != nil || !s.Has(chain) {
		t.Fatalf("chain of a container: %v, %v", s.Has(chain), err)
	}
	equal(t, tree(t, s.mount(t, "c")), "a", "b")
	if err := s.Remove(context.Background(), "c"); err != nil || s.Has(chain) {
		t.Fatalf("chain without container: %v, %v", s.Has(chain), err)
	}
}

func testWrongDiff(t *testing.T, s *site) {
	b := Tar(t, File{Name: "a"})
	wrong := digest.FromString("other")
	if _, err := s.Apply(context.Background(), "", wrong, bytes.NewReader(b)); err == nil {
		t.Fatal("applied")
	}
	if _, err := s.Apply(context.Background(), "", digest.FromBytes(b), bytes.NewReader(b[:700])); err == nil {
		t.Fatal("applied what is cut off")
	}
	if s.Has(wrong) {
		t.Error("layer exists")
	}
	left, _ := os.ReadDir(filepath.Join(s.root, "layers", s.Driver(), "staging"))
	if len(left) > 0 {
		t.Errorf("left in staging: %v", left)
	}
}

func testLeftovers(t *testing.T, s *site) {
	staging := filepath.Join(s.root, "layers", s.Driver(), "staging", "layer-1")
	trash := filepath.Join(s.root, "trash", "old")
	old := filepath.Join(s.root, "old")
	for _, d := range []string{staging, old} {
		if err := os.MkdirAll(d+"/x/y", 0700); err != nil {
			t.Fatal(err)
		}
	}
	// The store that is open empties the trash while it is filled: what
	// is thrown away comes whole, as everything does.
	if err := os.Rename(old, trash); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	if _, err := os.Stat(staging); !errors.Is(err, os.ErrNotExist) {
		t.Error("staging was not emptied")
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		left, err := os.ReadDir(filepath.Dir(trash))
		if err == nil && len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left in the trash: %v, %v", left, err)
		}
	}
}

func testPrune(t *testing.T, s *site) {
	base := []File{{Name: "a"}}
	one, two := s.apply(t, base, []File{{Name: "1"}}), s.apply(t, base, []File{{Name: "2"}})
	if err := s.Prune([]layer.ChainID{one}); err != nil {
		t.Fatal(err)
	}
	if !s.Has(one) || s.Has(two) || !s.Has(s.apply(t, base)) {
		t.Error("pruned the wrong layers")
	}
}

func testParents(t *testing.T, s *site) {
	base := s.apply(t, []File{{Name: "a"}})
	top := s.apply(t, []File{{Name: "a"}}, []File{{Name: "b"}})
	s.reopen(t)
	if err := s.RemoveChain(base); err != nil || !s.Has(base) || !s.Has(top) {
		t.Fatalf("with a layer on it: %v, %v, %v", err, s.Has(base), s.Has(top))
	}
	equal(t, tree(t, s.container(t, "c", top, layer.Options{})), "a", "b")
	if err := s.Remove(context.Background(), "c"); err != nil || !s.Has(base) {
		t.Fatalf("after a container: %v, %v", err, s.Has(base))
	}
	if err := s.RemoveChain(top); err != nil || s.Has(base) || s.Has(top) {
		t.Errorf("without: %v, %v, %v", err, s.Has(base), s.Has(top))
	}
}

func testEmptyChain(t *testing.T, s *site) {
	root := s.container(t, "c", "", layer.Options{})
	equal(t, tree(t, root))
	if err := os.WriteFile(root+"/x", nil, 0600); err != nil {
		t.Fatal(err)
	}
	equal(t, s.changes(t, "c"), "A /x")
}

func testLinks(t *testing.T, s *site) {
	outside := t.TempDir()
	chain := s.apply(t, []File{{Name: "dev", Link: outside}, {Name: "etc/"}, {Name: "etc/hosts", Link: outside + "/hosts"}, {Name: "proc", Link: "../../.."}})
	root := s.container(t, "c", chain, layer.Options{})
	for _, p := range []string{"dev", "etc/hosts", "proc"} {
		if info, err := os.Lstat(root + "/" + p); err != nil || info.Mode()&os.ModeSymlink != 0 {
			t.Errorf("%s is a link, %v", p, err)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("made outside: %v", left)
	}
}

// prober tries, from where a layer is unpacked, what an archive must not reach.
type prober struct {
	io.Reader
	try func() error
	err error
}

func (p *prober) Read(b []byte) (int, error) {
	if p.try != nil {
		p.err, p.try = p.try(), nil
	}
	return p.Reader.Read(b)
}

func testConfined(t *testing.T, s *site) {
	b := Tar(t, File{Name: "d/"}, File{Name: "d/f", Data: "x"}, File{Name: "g", Hard: "d/f"})
	dir := t.TempDir()
	calls := map[string]func() error{
		"mount": func() error { return syscall.Mount("x", dir, "tmpfs", 0, "") },
		"setuid": func() error {
			_, _, e := syscall.RawSyscall(syscall.SYS_SETUID, 1, 0, 0)
			return e
		},
		"chroot": func() error { return syscall.Chroot(dir) },
	}
	if confine.Landlock() >= 2 {
		calls["write"] = func() error { return os.WriteFile(dir+"/x", nil, 0600) }
		calls["read"] = func() error { _, err := os.ReadFile("/etc/shadow"); return err }
	}
	for name, try := range calls {
		p := &prober{Reader: bytes.NewReader(b), try: try}
		batch := s.NewBatch()
		if err := batch.Unpack(t.Context(), "", digest.FromBytes(b), p); err != nil {
			t.Errorf("%s: unpack: %v", name, err)
		}
		if !errors.Is(p.err, syscall.EPERM) && !errors.Is(p.err, syscall.EACCES) {
			t.Errorf("%s: %v", name, p.err)
		}
		batch.Close()
	}
	if err := os.WriteFile(dir+"/x", nil, 0600); err != nil { // the process can still
		t.Error(err)
	}
}
