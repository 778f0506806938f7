package container

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

func testContainer(t *testing.T, x *index, id, name string) *Container {
	t.Helper()
	if err := x.reserve(name, id); err != nil {
		t.Fatal(err)
	}
	c := newContainer(&Record{ID: id, Name: name, Created: time.Now(), Config: &container.Config{}, HostConfig: &container.HostConfig{}}, Created)
	x.add(c)
	return c
}

func TestFind(t *testing.T) {
	x := newIndex()
	a := testContainer(t, x, "aa"+ident.New()[2:], "web")
	b := testContainer(t, x, "ab"+ident.New()[2:], "aabb") // a name that looks like the beginning of an ID
	for ref, want := range map[string]*Container{a.ID: a, "web": a, "/web": a, a.ID[:12]: a, "aabb": b, b.ID[:5]: b} {
		if got, err := x.find(ref); err != nil || got != want {
			t.Errorf("find(%q): %v", ref, err)
		}
	}
	if _, err := x.find("a"); errdefs.KindOf(err) != errdefs.InvalidArgument || !strings.Contains(err.Error(), "multiple IDs found with provided prefix: a") {
		t.Error(err)
	}
	for _, ref := range []string{"", "nope", "ffffffffffff", "/", "a/b"} {
		if _, err := x.find(ref); errdefs.KindOf(err) != errdefs.NotFound || err.Error() != "No such container: "+ref {
			t.Errorf("find(%q): %v", ref, err)
		}
	}
}

func TestExactlyOneGetsAName(t *testing.T) {
	x := newIndex()
	var wg sync.WaitGroup
	var won atomic.Int32
	for i := range 50 {
		wg.Go(func() {
			if x.reserve("one", fmt.Sprint(i)) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatal(won.Load())
	}
	err := x.reserve("one", "other")
	if errdefs.KindOf(err) != errdefs.Conflict || !strings.Contains(err.Error(), `The container name "/one" is already in use by container`) {
		t.Fatal(err)
	}
}

func TestRemovedContainerIsNotFound(t *testing.T) {
	x := newIndex()
	c := testContainer(t, x, ident.New(), "web")
	x.remove(c)
	if _, err := x.find("web"); !errdefs.Is(err, errdefs.NotFound) {
		t.Fatal(err)
	}
	testContainer(t, x, ident.New(), "web")
}

func TestNamesAreValidAndMany(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		n := madeUpName(0)
		if err := spec.ValidateName(n); err != nil {
			t.Fatal(n, err)
		}
		seen[n] = true
	}
	if len(seen) < 500 {
		t.Fatal(len(seen))
	}
}
