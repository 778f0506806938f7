package main

import (
	"fmt"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/overlay"
	"github.com/tare-engine/tare/internal/layer/vfs"
)

// drivers are the storage drivers, by the words of --storage-driver; the first
// is the default.
var drivers = []struct {
	name string
	open func(root string) (layer.Driver, error)
}{
	{"overlay", func(root string) (layer.Driver, error) { return overlay.New(root) }},
	{"vfs", func(root string) (layer.Driver, error) { return vfs.New(root), nil }},
}

func driverNames() []string {
	names := make([]string, len(drivers))
	for i, d := range drivers {
		names[i] = d.name
	}
	return names
}

// openDriver returns a driver for a data root, or why it cannot work there.
func openDriver(name, root string) (layer.Driver, error) {
	for _, d := range drivers {
		if d.name == name {
			return d.open(root)
		}
	}
	return nil, fmt.Errorf("storage driver %q is not known", name)
}
