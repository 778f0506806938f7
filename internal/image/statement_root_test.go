//go:build root

package image_test

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
)

func TestStatements(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	m := r.image(simple())
	m.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	attest := func(layers ...ocispec.Descriptor) ocispec.Descriptor {
		doc := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: r.put(ocispec.MediaTypeImageConfig, []byte("{}")), Layers: layers}
		d := r.put(doc.MediaType, imagetest.JSON(doc))
		d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": m.Digest.String()}
		d.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		return d
	}
	statement := func(predicate, text string) ocispec.Descriptor {
		d := r.put("application/vnd.in-toto+json", []byte(text))
		d.Annotations = map[string]string{"in-toto.io/predicate-type": predicate}
		return d
	}
	other := r.put("application/octet-stream", []byte("other"))
	one := attest(statement("slsa", `{"built":"here"}`), other, statement("spdx", `{"files":[]}`))
	two := attest(statement("odd", "no JSON"))
	r.tags["latest"] = r.index(m, one, one, two)
	if _, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	i := s.image(t, "x")
	for _, tt := range []struct {
		types []string
		text  bool
		want  string
	}{
		{nil, false, "slsa= spdx= odd= "},
		{[]string{"spdx"}, true, `spdx={"files":[]} `},
		{[]string{"slsa", "spdx"}, true, `slsa={"built":"here"} spdx={"files":[]} `},
		{[]string{"none"}, true, ""},
	} {
		list, err := s.images.Statements(ctx, i, tt.types, tt.text)
		got := ""
		for _, st := range list {
			got += st.Predicate + "=" + string(st.Text) + " "
			if st.Descriptor.Digest == "" || st.Descriptor.Size == 0 {
				t.Errorf("%+v", st)
			}
		}
		if err != nil || got != tt.want {
			t.Errorf("%q: %s, %v, want %s", tt.types, got, err, tt.want)
		}
	}
	if _, err := s.images.Statements(ctx, i, nil, true); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("a statement that is no document: %v", err)
	}

	// An image that came alone has none.
	s.load(t, imagetest.Reader(imagetest.OCI(imagetest.Image{Names: []string{"z:1"}, Layers: simple().Layers[:1]})))
	if list, err := s.images.Statements(ctx, s.image(t, "z:1"), nil, true); err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}
