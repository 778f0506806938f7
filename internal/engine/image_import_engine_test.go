package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/dataroot"
	"github.com/tare-engine/tare/internal/errdefs"
)

func TestSelectedForeignImages(t *testing.T) {
	x, y := digest.FromString("x"), digest.FromString("y")
	all := []foreignImage{{id: x, names: []string{"a:1", "docker.io/library/a:latest", "host/b:2"}}, {id: y}}
	for _, c := range []struct {
		refs string
		want string // names, or ID for an image without
	}{
		{"", "a:1 docker.io/library/a:latest host/b:2, " + y.String()},
		{"a", "docker.io/library/a:latest"},
		{"docker.io/library/a:1 host/b:2", "a:1 host/b:2"},
		{"a:1 a:1", "a:1"},
		{"a:1 " + x.Encoded()[:12], "a:1 docker.io/library/a:latest host/b:2"},
		{y.String(), y.String()},
		{x.Encoded()[:4] + " " + y.Encoded()[:4], "a:1 docker.io/library/a:latest host/b:2, " + y.String()},
	} {
		list, err := selected(all, strings.Fields(c.refs), "/d")
		var got []string
		for _, f := range list {
			if f.names == nil {
				f.names = []string{f.id.String()}
			}
			got = append(got, strings.Join(f.names, " "))
		}
		if err != nil || strings.Join(got, ", ") != c.want {
			t.Errorf("%q: %v, %v, want %s", c.refs, got, err, c.want)
		}
	}
	for _, ref := range []string{"a:2", "b:2", x.Encoded()[:3], "A", "sha256:"} {
		if got, err := selected(all, []string{"a:1", ref}, "/d"); !errdefs.Is(err, errdefs.NotFound) || err.Error() != "No such image in /d: "+ref {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
}

// TestNamesGoBeforeIDs, and the beginning of several IDs names none of them.
func TestNamesGoBeforeIDs(t *testing.T) {
	id := func(hex string) digest.Digest {
		return digest.NewDigestFromEncoded(digest.SHA256, hex+strings.Repeat("0", 64-len(hex)))
	}
	all := []foreignImage{{id: id("cafe1")}, {id: id("cafe2")}, {id: id("beef1")}, {id: id("aaaa"), names: []string{"beef:latest"}}}
	list, err := selected(all, []string{"beef"}, "/d")
	if err != nil || len(list) != 1 || list[0].id != id("aaaa") {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := selected(all, []string{"cafe"}, "/d"); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "several images") {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := selected(all, []string{"cafe2"}, "/d"); err != nil || len(list) != 1 || list[0].id != id("cafe2") {
		t.Errorf("%v, %v", list, err)
	}
}

// TestNamesOfPackedImages: what several names point to is one image, and what
// other engines call images without names is none.
func TestNamesOfPackedImages(t *testing.T) {
	name := func(name, target string) dataroot.StoreImage {
		return dataroot.StoreImage{Name: name, Target: ocispec.Descriptor{Digest: digest.FromString(target)}}
	}
	all := (&Distribution{}).packedImages(new(dataroot.Store), []dataroot.StoreImage{
		name("a:1", "x"), name("b:1", "y"), name("c:1", "x"), name("moby-dangling@sha256:1", "z"), name("sha256:2", "y"),
	})
	var got []string
	for _, f := range all {
		got = append(got, fmt.Sprint(f.id.Encoded()[:4], f.names))
	}
	want := fmt.Sprint([]string{
		digest.FromString("x").Encoded()[:4] + "[a:1 c:1]", digest.FromString("y").Encoded()[:4] + "[b:1]", digest.FromString("z").Encoded()[:4] + "[]",
	})
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}
