package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archiveOf is an OCI archive of an image with one layer.
func archiveOf(t *testing.T, config map[string]any, files ...tar.Header) []byte {
	t.Helper()
	var layer, archive bytes.Buffer
	write := func(w *tar.Writer, h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	l, a := tar.NewWriter(&layer), tar.NewWriter(&archive)
	for _, h := range files {
		h.Format = tar.FormatPAX
		write(l, h, []byte(h.Uname)) // its data
	}
	blob := func(data []byte) ocispec.Descriptor {
		d := digest.FromBytes(data)
		write(a, tar.Header{Name: blobName(d), Typeflag: tar.TypeReg}, data)
		return ocispec.Descriptor{Digest: d, Size: int64(len(data))}
	}
	document := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	config["os"], config["architecture"] = "linux", "amd64"
	config["history"] = []ocispec.History{{CreatedBy: "ENV a=b", EmptyLayer: true}, {CreatedBy: "RUN /bin/sh -c x\n\t# buildkit"}}
	m := ocispec.Manifest{Layers: []ocispec.Descriptor{blob(layer.Bytes())}, Config: blob(document(config))}
	index := document(ocispec.Index{Manifests: []ocispec.Descriptor{blob(document(m))}})
	write(a, tar.Header{Name: ocispec.ImageIndexFile, Typeflag: tar.TypeReg}, index)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func differences(t *testing.T, a, b []byte) []string {
	t.Helper()
	var both []*pictured
	for _, archive := range [][]byte{a, b} {
		images, err := pictureOf(bytes.NewReader(archive))
		if err != nil || images["linux/amd64"] == nil {
			t.Fatal(images, err)
		}
		both = append(both, images["linux/amd64"])
	}
	var out strings.Builder
	n := compare(&out, both[0], both[1])
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if n == 0 && out.Len() == 0 {
		return nil
	}
	if n != len(lines) {
		t.Errorf("%d differences: %q", n, lines)
	}
	return lines
}

func TestCompare(t *testing.T) {
	at := time.Unix(1000000000, 0)
	file := func(name, data string, change func(*tar.Header)) tar.Header {
		h := tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Uname: data, ModTime: at}
		if change != nil {
			change(&h)
		}
		return h
	}
	none := func() map[string]any { return map[string]any{} }
	base := archiveOf(t, none(), file("a", "1", nil), file("b", "1", nil))
	if d := differences(t, base, archiveOf(t, none(), file("a", "1", nil), file("b", "1", nil))); d != nil {
		t.Errorf("the same differs: %q", d)
	}
	for want, other := range map[string][]byte{
		"/b: content":                       archiveOf(t, none(), file("a", "1", nil), file("b", "2", nil)),
		"/b: size 1, then 2":                archiveOf(t, none(), file("a", "1", nil), file("b", "22", nil)),
		"/a: mode 0644, then 4755":          archiveOf(t, none(), file("a", "1", func(h *tar.Header) { h.Mode = 0o4755 }), file("b", "1", nil)),
		"/a: owner 0:0, then 1:2":           archiveOf(t, none(), file("a", "1", func(h *tar.Header) { h.Uid, h.Gid = 1, 2 }), file("b", "1", nil)),
		"/b: only in the first build":       archiveOf(t, none(), file("a", "1", nil)),
		"/c: only in the second build":      archiveOf(t, none(), file("a", "1", nil), file("b", "1", nil), file("c", "1", nil)),
		"the order of the files":            archiveOf(t, none(), file("b", "1", nil), file("a", "1", nil)),
		"/a: extended attributes":           archiveOf(t, none(), file("a", "1", func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "1"} }), file("b", "1", nil)),
		"/a: time 2001-09-09T01:46:40Z":     archiveOf(t, none(), file("a", "1", func(h *tar.Header) { h.ModTime = at.Add(time.Second) }), file("b", "1", nil)),
		`configuration.x: null, then "new"`: archiveOf(t, map[string]any{"x": "new"}, file("a", "1", nil), file("b", "1", nil)),
	} {
		d := differences(t, base, other)
		if len(d) != 1 || !strings.Contains(d[0], want) || !strings.HasPrefix(d[0], "layer 1 (RUN /bin/sh -c x): ") && !strings.HasPrefix(want, "conf") {
			t.Errorf("%q, want %s", d, want)
		}
	}
}

func TestPictureOfWhatIsNoImage(t *testing.T) {
	whole := archiveOf(t, map[string]any{})
	for name, b := range map[string][]byte{"nothing": nil, "half": whole[:len(whole)/2], "noise": bytes.Repeat([]byte{7}, 2048)} {
		if _, err := pictureOf(bytes.NewReader(b)); err == nil {
			t.Errorf("%s is an image", name)
		}
	}
}
