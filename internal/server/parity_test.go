package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tare-engine/tare/api"
)

// swagger is what a version of Docker's API has, of what is looked at here.
type swagger struct {
	Paths map[string]map[string]yaml.Node
}

// TestEveryOperationOfEveryVersionHasARoute, also those of versions that are gone.
func TestEveryOperationOfEveryVersionHasARoute(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "docs")
	files, err := filepath.Glob(filepath.Join(dir, "v1.[2-9][0-9].yaml"))
	if err != nil {
		t.Fatal(err)
	}
	last := filepath.Join(dir, "v"+api.MaxVersion.String()+".yaml")
	if _, err := os.Stat(last); err != nil || len(files) < 30 {
		t.Fatalf("%d versions in %s, %v", len(files), dir, err)
	}
	seen := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s swagger
		if err := yaml.Unmarshal(b, &s); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for path, methods := range s.Paths {
			for method := range methods {
				if method == "parameters" {
					continue
				}
				seen++
				at := strings.NewReplacer("{", "", "}", "").Replace(path)
				r, _ := lookUp(strings.ToUpper(method), at)
				if r == nil || strings.Count(r.pattern, "/") != strings.Count(path, "/") {
					t.Errorf("%s: %s %s has no route", filepath.Base(file), method, path)
				}
			}
		}
	}
	if seen < 2500 {
		t.Fatalf("only %d operations seen", seen)
	}
}
