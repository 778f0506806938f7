package device

import (
	"errors"
	"io/fs"
	"testing"
)

func TestAt(t *testing.T) {
	n, err := At("/dev/null")
	if err != nil || n.Type != "c" || n.Major != 1 || n.Minor != 3 || n.Mode != 0o666 {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := At("/dev"); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	if _, err := At("/dev/nosuch"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestBelow(t *testing.T) {
	all, err := Below("/dev", nil)
	if err != nil || len(all) < 5 {
		t.Fatalf("%d nodes, %v", len(all), err)
	}
	some, err := Below("/dev", func(name string) bool { return name == "null" })
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range some {
		if n.Path == "/dev/null" {
			t.Error("skipped node found")
		}
	}
}
