//go:build root

package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCreateRequestsAreDockers gives the same command lines to docker's
// command line and to ours, and compares what an engine gets to see.
func TestCreateRequestsAreDockers(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal("install docker's command line: ", err)
	}
	for _, line := range createLines {
		t.Run(line, func(t *testing.T) {
			e := newFakeEngine(t)
			cmd := exec.Command(docker, append([]string{"create"}, fields(line)...)...)
			cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.host, "DOCKER_CONFIG="+t.TempDir())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("docker: %v: %s", err, out)
			}
			want := e.lastCreate()
			if r := tare(t, e.host, "", append([]string{"create"}, fields(line)...)...); r.code != 0 {
				t.Fatalf("tare: %s", r.err)
			}
			got := e.lastCreate()
			sortLists(want)
			sortLists(got)
			if diff := cmp.Diff(plainValues(want), plainValues(got)); diff != "" {
				t.Errorf("-docker +tare:\n%s", diff)
			}
		})
	}
}

// sortLists puts the lists in an order of their own, but for command lines:
// docker collects most options in maps, so theirs is any. Ours is in the golden
// file.
func sortLists(v any) {
	m, _ := v.(map[string]any)
	for k, e := range m {
		sortLists(e)
		if list, ok := e.([]any); ok && k != "Cmd" && k != "Entrypoint" {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
	}
}
