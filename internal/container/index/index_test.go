package index

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

type item struct{ label Label }

func (i *item) Label() Label { return i.label }

func add(t *testing.T, x *Index[*item], id, name string) *item {
	t.Helper()
	if err := x.Reserve(name, id); err != nil {
		t.Fatal(err)
	}
	c := &item{Label{ID: id, Name: name, Created: time.Now()}}
	x.Add(c)
	return c
}

func TestFind(t *testing.T) {
	x := New[*item]()
	a := add(t, x, "aa"+ident.New()[2:], "web")
	b := add(t, x, "ab"+ident.New()[2:], "aabb") // a name that looks like the beginning of an ID
	for ref, want := range map[string]*item{a.label.ID: a, "web": a, "/web": a, a.label.ID[:12]: a, "aabb": b, b.label.ID[:5]: b} {
		if got, err := x.Find(ref); err != nil || got != want {
			t.Errorf("find(%q): %v", ref, err)
		}
	}
	if _, err := x.Find("a"); errdefs.KindOf(err) != errdefs.InvalidArgument || !strings.Contains(err.Error(), "multiple IDs found with provided prefix: a") {
		t.Error(err)
	}
	if _, err := x.Find(""); errdefs.KindOf(err) != errdefs.InvalidArgument {
		t.Error(err)
	}
	for _, ref := range []string{"nope", "ffffffffffff", "/", "a/b"} {
		if _, err := x.Find(ref); errdefs.KindOf(err) != errdefs.NotFound || err.Error() != "No such container: "+ref {
			t.Errorf("find(%q): %v", ref, err)
		}
	}
}

func TestExactlyOneGetsAName(t *testing.T) {
	x := New[*item]()
	var wg sync.WaitGroup
	var won atomic.Int32
	for i := range 50 {
		wg.Go(func() {
			if x.Reserve("one", fmt.Sprint(i)) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatal(won.Load())
	}
	err := x.Reserve("one", "other")
	if errdefs.KindOf(err) != errdefs.Conflict || !strings.Contains(err.Error(), `The container name "/one" is already in use by container`) {
		t.Fatal(err)
	}
}

func TestRemovedContainerIsNotFound(t *testing.T) {
	x := New[*item]()
	c := add(t, x, ident.New(), "web")
	x.Remove(c)
	if _, err := x.Find("web"); !errdefs.Is(err, errdefs.NotFound) {
		t.Fatal(err)
	}
	add(t, x, ident.New(), "web")
}

func TestNamesAreValidAndMany(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		n := MadeUpName(0)
		if err := spec.ValidateName(n); err != nil {
			t.Fatal(n, err)
		}
		seen[n] = true
	}
	if len(seen) < 500 {
		t.Fatal(len(seen))
	}
}
