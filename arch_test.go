package tare

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tare-engine/tare/"

// levels is the table of ARCHITECTURE.md: a package imports lower levels only.
// A folder below one of these belongs to it and may import its parent; only
// cmd imports the folders of drivers of layers and volumes.
var levels = map[string]int{
	"cmd":             7,
	"internal/server": 6, "internal/metrics": 6,
	"internal/engine": 5,
	"internal/build":  4,
	"internal/image":  3, "internal/container": 3, "internal/oci": 3,
	"internal/layer": 2, "internal/runtime": 2, "internal/network": 2, "internal/volume": 2, "internal/logs": 2,
	"internal/content": 1, "internal/store": 1, "internal/event": 1, "internal/keeper": 1, "internal/registry": 1, "internal/dataroot": 1, "internal/union": 1, "internal/archive": 1, "internal/plugin": 1, "client": 1,
	"api": 0, "internal/errdefs": 0, "internal/undo": 0, "internal/ident": 0, "internal/failpoint": 0, "internal/logfile": 0, "internal/idrange": 0, "internal/tally": 0, "internal/manifest": 0, "internal/sigproxy": 0, "internal/linux": 0,
}

// noun returns the row of the table to which a package folder belongs.
func noun(dir string) string {
	for d := dir; d != "." && d != "/"; d = filepath.Dir(d) {
		if _, ok := levels[d]; ok {
			return d
		}
	}
	return ""
}

// imports calls f for every import of our own and of the kernel's package in
// the program (test files and test/ aside).
func imports(t *testing.T, f func(file, dir, path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (p == "test" || p == "bin" || strings.HasPrefix(p, ".") && p != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		a, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range a.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			f(p, filepath.Dir(p), path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsGoDown(t *testing.T) {
	if _, err := os.Stat("go.mod"); err != nil {
		t.Fatal(err)
	}
	n := 0
	imports(t, func(file, dir, path string) {
		path, ours := strings.CutPrefix(path, module)
		if !ours || dir == "." {
			return
		}
		n++
		from, to := noun(dir), noun(path)
		switch {
		case from == "":
			t.Errorf("%s: the package has no row in the table of levels", file)
		case to == "":
			t.Errorf("%s: imports %s, which has no row in the table of levels", file, path)
		case from == to && from == "internal/linux":
			if dir != path {
				t.Errorf("%s: kernel facility imports another (%s)", file, path)
			}
		case from == to: // a folder and its parent
		case levels[from] == 0:
			t.Errorf("%s: level 0 imports %s", file, path)
		case levels[to] >= levels[from]:
			t.Errorf("%s: %s (level %d) imports %s (level %d)", file, from, levels[from], to, levels[to])
		}
		if driver(path) && noun(dir) != "cmd" {
			t.Errorf("%s: imports driver %s; only cmd does", file, path)
		}
	})
	if n == 0 {
		t.Fatal("no imports seen")
	}
}

// TestEveryPackageIsInTheDocument: ARCHITECTURE.md names each package in
// backquotes, by its path or, in its parent's row, by its last part.
func TestEveryPackageIsInTheDocument(t *testing.T) {
	b, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for i, part := range strings.Split(string(b), "`") {
		if i%2 == 1 {
			words[strings.TrimSuffix(part, "/")] = true
		}
	}
	dirs := map[string]bool{}
	imports(t, func(_, dir, _ string) { dirs[dir] = true })
	for dir := range dirs {
		if dir != "." && !words[dir] && !words[filepath.Base(dir)] {
			t.Errorf("%s: the package is not named in ARCHITECTURE.md", dir)
		}
	}
	if len(dirs) < 20 {
		t.Fatalf("only %d packages seen", len(dirs))
	}
}

// driver reports whether a package folder is a driver of its parent.
func driver(path string) bool {
	if path == "internal/volume/local" {
		return true
	}
	sub, ok := strings.CutPrefix(path, "internal/layer/")
	return ok && sub != "layertest"
}

func TestOnlyLinuxPackagesCallTheKernel(t *testing.T) {
	imports(t, func(file, dir, path string) {
		if path == "golang.org/x/sys/unix" && noun(dir) != "internal/linux" {
			t.Errorf("%s: imports %s; kernel facilities are wrapped under internal/linux", file, path)
		}
	})
}

// TestCommandLineIsLean keeps engine code out of the command line, which must
// start in a few milliseconds.
func TestCommandLineIsLean(t *testing.T) {
	seen := map[string]bool{}
	imports(t, func(file, dir, path string) {
		p, ours := strings.CutPrefix(path, module)
		if dir == "cmd/tare" || strings.HasPrefix(dir, "cmd/tare/") {
			seen[dir] = true
			if ours && noun(p) != "client" && noun(p) != "api" && noun(p) != "cmd" && p != "internal/sigproxy" {
				t.Errorf("%s: the command line imports %s", file, p)
			}
			if path == "text/template" && dir != "cmd/tare/template" || path == "html/template" || path == "regexp" {
				t.Errorf("%s: imports %s, which makes the program larger (see cmd/tare/template)", file, path)
			}
		}
	})
	for _, dir := range []string{"cmd/tare", "cmd/tare/format", "cmd/tare/opts", "cmd/tare/template"} {
		if !seen[dir] {
			t.Errorf("%s: no imports seen", dir)
		}
	}
}

// TestCommandLineKeepsNoMethods: if any code in the program can ask for a method by
// a name that is not constant, the linker keeps all exported ones.
func TestCommandLineKeepsNoMethods(t *testing.T) {
	cmd := exec.Command("go", "build", "-o", filepath.Join(t.TempDir(), "tare"), "-ldflags", "-dumpdep", "./cmd/tare")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %.2000s", err, out)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		seen++
		if strings.Contains(line, "<ReflectMethod>") {
			t.Error(line)
		}
	}
	if seen < 1000 {
		t.Fatalf("the linker said nothing: %.2000s", out)
	}
}
