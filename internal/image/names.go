package image

import (
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Labels of a record in images.db, whose target is what the reference leads to.
const (
	labelID       = "tare/image-id"
	labelParent   = "tare/parent-id"
	labelManifest = "tare/manifest" // descriptor, where the target is an index
	labelOther    = "tare/other."   // + the hexadecimal digits of an ID: descriptor of its manifest
	labelAgain    = "tare/again."   // + those of a manifest's digest, which lists an image that the name has by another: both
)

// name is what a reference points to: an image, and where it came with an index,
// the index's images for other platforms that are here. An index may list an
// image twice, by manifests whose layers are packed differently.
type name struct {
	entry
	others []entry            // all with different manifests
	target ocispec.Descriptor // the manifest, or the index that has it and those of others
	tagged time.Time
}

// entry is one image of a name.
type entry struct {
	id       ID
	parent   ID // of which it was made here; "": of none, or not here
	manifest ocispec.Descriptor
}

// all are the images of a name, the one that it stands for on this machine first.
func (n name) all() []entry { return append([]entry{n.entry}, n.others...) }

// indexed reports whether the name leads to an index.
func (n name) indexed() bool { return n.target.Digest != n.manifest.Digest }

// lacks reports whether the name has not all images of another.
func (n name) lacks(other name) bool {
	return slices.ContainsFunc(other.all(), func(e entry) bool { _, ok := n.of(e.id); return !ok })
}

// has reports whether the name has an image by the same manifest.
func (n name) has(e entry) bool {
	return slices.ContainsFunc(n.all(), func(own entry) bool { return own.id == e.id && own.manifest.Digest == e.manifest.Digest })
}

// of is the name as it would be for one of its images alone.
func (n name) of(id ID) (name, bool) {
	own := slices.DeleteFunc(n.all(), func(e entry) bool { return e.id != id })
	if len(own) == 0 {
		return name{}, false
	}
	return name{entry: own[0], others: own[1:], target: n.target, tagged: n.tagged}, true
}

// of is what a name says of one of its images; nothing if it is none of them.
func (v *view) of(ref string, id ID) name {
	n, _ := v.names[ref].of(id)
	return n
}

// entries are the images of all names, each as the name would be for it alone, by
// one manifest.
func (v *view) entries() iter.Seq2[string, name] {
	return func(yield func(string, name) bool) {
		for ref, n := range v.names {
			for _, e := range n.all() {
				if !yield(ref, name{entry: e, target: n.target, tagged: n.tagged}) {
					return
				}
			}
		}
	}
}

// recordOf is a name as images.db has it.
func recordOf(ref string, n name) (images.Image, error) {
	i := images.Image{Name: ref, Target: n.target, Labels: map[string]string{labelID: string(n.id)}}
	if n.parent != "" {
		i.Labels[labelParent] = string(n.parent)
	}
	describe := func(label string, e entry) error {
		b, err := json.Marshal(plainDescriptor(e.manifest))
		i.Labels[label] = string(b)
		return err
	}
	if n.indexed() {
		if err := describe(labelManifest, n.entry); err != nil {
			return i, err
		}
	}
	met := map[ID]bool{n.id: true}
	for _, e := range n.others {
		if met[e.id] {
			b, err := json.Marshal(again{e.id, plainDescriptor(e.manifest)})
			if err != nil {
				return i, err
			}
			i.Labels[labelAgain+e.manifest.Digest.Encoded()] = string(b)
			continue
		}
		met[e.id] = true
		if err := describe(labelOther+e.id.Encoded(), e); err != nil {
			return i, err
		}
	}
	return i, nil
}

// again is one more manifest by which a name has an image.
type again struct {
	ID       ID
	Manifest ocispec.Descriptor
}

// plainDescriptor is a descriptor without what an index says beside.
func plainDescriptor(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// nameIn is the reverse of recordOf.
func nameIn(i images.Image) (name, error) {
	n := name{target: i.Target, tagged: i.UpdatedAt}
	n.entry = entry{id: digest.Digest(i.Labels[labelID]), parent: digest.Digest(i.Labels[labelParent]), manifest: i.Target}
	if err := n.id.Validate(); err != nil {
		return n, err
	}
	var err error
	if b, ok := i.Labels[labelManifest]; ok {
		if n.manifest, err = manifestIn(b); err != nil {
			return n, err
		}
	}
	for _, label := range slices.Backward(slices.Sorted(maps.Keys(i.Labels))) { // "other" before "again"
		if e, ok, err := otherIn(label, i.Labels[label]); err != nil {
			return n, err
		} else if ok {
			n.others = append(n.others, e)
		}
	}
	slices.SortStableFunc(n.others, func(a, b entry) int { return cmp.Compare(a.id, b.id) })
	return n, nil
}

// otherIn reads a label that describes one of the others; false if it does not.
func otherIn(label, value string) (e entry, ok bool, err error) {
	if hex, ok := strings.CutPrefix(label, labelOther); ok {
		e.id = digest.NewDigestFromEncoded(digest.SHA256, hex)
		e.manifest, err = manifestIn(value)
		return e, true, cmp.Or(err, e.id.Validate())
	}
	if !strings.HasPrefix(label, labelAgain) {
		return e, false, nil
	}
	var a again
	if err := json.Unmarshal([]byte(value), &a); err != nil {
		return e, true, err
	}
	return entry{id: a.ID, manifest: a.Manifest}, true, cmp.Or(a.ID.Validate(), a.Manifest.Digest.Validate())
}

func manifestIn(label string) (d ocispec.Descriptor, err error) {
	if err := json.Unmarshal([]byte(label), &d); err != nil {
		return d, err
	}
	return d, d.Digest.Validate()
}
