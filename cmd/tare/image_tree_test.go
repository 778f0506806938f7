package main

import (
	"bytes"
	"testing"

	"github.com/tare-engine/tare/api"
)

func TestImageTree(t *testing.T) {
	of := func(id string, names []string, layers ...string) api.ImageLayers {
		i := api.ImageLayers{ID: "sha256:" + id, Names: names}
		chain := ""
		for _, l := range layers {
			chain += l
			i.Layers = append(i.Layers, api.ImageLayer{ChainID: "sha256:" + chain, Size: int64(len(l)) * 1000})
		}
		return i
	}
	var out bytes.Buffer
	for _, l := range treeOf([]api.ImageLayers{
		of("4", []string{"d"}, "x", "y", "z"),
		of("3", []string{"c"}, "aa", "b", "c"),
		of("2", nil, "aa", "b", "d"),
		of("1", []string{"b", "a\x1b"}, "aa"),
		of("0", []string{"empty"}),
	}) {
		if err := l.print(&out, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	const want = `aa 2kB  a\x1b (1), b (1)
└─ aab 1kB
   ├─ aabd 1kB  <none> (2)
   └─ aabc 1kB  c (3)
xyz 3kB in 3 layers  d (4)
no layers  empty (0)
`
	if out.String() != want {
		t.Errorf("\n%swant\n%s", out.String(), want)
	}
}
