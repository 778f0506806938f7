//go:build root && failpoint

package union_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
)

// These tell a process that is to be killed what to do: the verb, the data root, a
// path into the container's root, and the chain.
const changeVar = "TARE_UNION_CHANGE"

// TestChanges: an engine is killed while an image comes to a container or leaves
// it. The container has all of it or nothing, what it has is kept, and the same can
// be done again.
func TestChanges(t *testing.T) {
	if words := strings.Fields(os.Getenv(changeVar)); len(words) == 4 {
		s := open(t, words[1])
		defer s.Close()
		live, err := s.Live(context.Background(), "c", words[2], nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := change(words[0], live, layer.ChainID(words[3])); err != nil {
			t.Fatal(err)
		}
		return
	}
	for verb, point := range map[string]string{"add": "layer/added-noted", "take": "layer/added-gone"} {
		t.Run("KillsLeaveOldOrNew/"+verb, func(t *testing.T) { killedChange(t, verb, point) })
	}
}

func change(verb string, live *layer.Live, chain layer.ChainID) error {
	if verb == "add" {
		return live.AddChain(-1, chain)
	}
	return live.TakeChain(chain)
}

func killedChange(t *testing.T, verb, point string) {
	m := mountOne(t, 0)
	chain := m.layers(layertest.File{Name: "one", Data: "2"}, layertest.File{Name: "two", Data: "3"})
	if verb == "take" {
		if err := m.live.AddChain(-1, chain); err != nil {
			t.Fatal(err)
		}
	}
	m.Close()
	at := strings.Replace(m.at, "self", fmt.Sprint(os.Getpid()), 1)
	cmd := exec.Command(os.Args[0], "-test.run=^TestChanges$", "-test.count=1")
	cmd.Env = append(os.Environ(), "TARE_FAILPOINTS="+point+"=kill", changeVar+"="+strings.Join([]string{verb, m.root, at, chain.String()}, " "))
	out, err := cmd.CombinedOutput()
	x, ok := errors.AsType[*exec.ExitError](err)
	if !ok || x.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("not killed: %v: %s", err, out)
	}
	m.Service = open(t, m.root)
	m.find()
	m.has("one", "")
	m.has("two", "")
	if err := m.RemoveChain(chain); err != nil || !m.Has(chain) {
		t.Errorf("what was noted is not kept: %v", err)
	}
	if err := change(verb, m.live, chain); err != nil {
		t.Errorf("again: %v", err)
	}
	if verb == "add" {
		m.has("one", "2")
		m.has("two", "3")
	}
	links, _ := filepath.Glob(filepath.Join(m.root, "containers/c/added-*"))
	if (len(links) == 1) != (verb == "add") {
		t.Errorf("noted: %v", links)
	}
}
