package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/btrfs"
	"github.com/tare-engine/tare/internal/layer/devicemapper"
	"github.com/tare-engine/tare/internal/layer/overlay"
	"github.com/tare-engine/tare/internal/layer/union"
	"github.com/tare-engine/tare/internal/layer/vfs"
)

// driver is a storage driver.
type driver struct {
	name  string // a word of --storage-driver
	alias string // what dockerd calls it, if that is another word
	open  func(root string, options ...string) (layer.Driver, error)
}

// drivers are tried in this order if none is named.
var drivers = []driver{
	{"overlay", "overlay2", func(root string, options ...string) (layer.Driver, error) { return overlay.New(root, options...) }},
	{"btrfs", "", func(root string, options ...string) (layer.Driver, error) { return btrfs.New(root, options...) }},
	{"union", "aufs", func(root string, options ...string) (layer.Driver, error) {
		return union.New(besideUs("tare-union"), root, options...)
	}},
	{"vfs", "", func(root string, options ...string) (layer.Driver, error) { return vfs.New(root, options...) }},
	{"devicemapper", "", func(root string, options ...string) (layer.Driver, error) { return devicemapper.New(root, options...) }},
}

func driverNames() []string {
	names := make([]string, len(drivers))
	for i, d := range drivers {
		names[i] = d.name
	}
	return names
}

// openDriver returns the driver of that name for a data root, or why it cannot
// work there. Without a name it is the one that has layers there, else the first
// that can.
func openDriver(name, root string, options []string) (layer.Driver, error) {
	if name != "" {
		d, err := driverNamed(name)
		if err != nil {
			return nil, err
		}
		return d.opened(root, options)
	}
	prior := priorDrivers(root)
	if len(prior) > 1 {
		names := make([]string, len(prior))
		for i, d := range prior {
			names[i] = d.name
		}
		return nil, fmt.Errorf("error initializing graphdriver: %s contains several valid graphdrivers: %s; cleanup or explicitly choose storage driver (-s <DRIVER>)", root, strings.Join(names, ", "))
	}
	if len(prior) == 1 {
		return prior[0].opened(root, options)
	}
	return firstDriver(root, options)
}

// firstDriver returns the first driver that works in a data root.
func firstDriver(root string, options []string) (layer.Driver, error) {
	var first error
	for _, d := range drivers {
		opened, err := d.open(root, options...)
		if err == nil {
			if first != nil {
				cost := ""
				if opened.Form() == layer.Whole {
					cost = ", which takes more time and space"
				}
				slog.Warn("the storage driver "+drivers[0].name+" cannot be used here; "+d.name+" is used instead"+cost, "err", first)
			}
			return opened, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("error initializing graphdriver: %w", first)
}

func driverNamed(name string) (driver, error) {
	for _, d := range drivers {
		if name == d.name || name == d.alias && name != "" {
			return d, nil
		}
	}
	return driver{}, fmt.Errorf("error initializing graphdriver: driver not supported: %s (want one of %s)", name, strings.Join(driverNames(), ", "))
}

// checkDriver has dockerd's text.
func checkDriver(name string) error {
	if name == "" {
		return nil
	}
	_, err := driverNamed(name)
	return err
}

func checkStorageOpt(option string) error {
	if _, _, ok := layer.KeyValue(option); !ok {
		return layer.NotKeyValue(option)
	}
	return nil
}

func (d driver) opened(root string, options []string) (layer.Driver, error) {
	opened, err := d.open(root, options...)
	if err != nil {
		return nil, fmt.Errorf("error initializing graphdriver: %w", err)
	}
	return opened, nil
}

// priorDrivers are those that have layers or containers in a data root.
func priorDrivers(root string) (prior []driver) {
	for _, d := range drivers {
		found, _ := filepath.Glob(filepath.Join(root, "layers", d.name, "*", "layer.json")) // the pattern is right
		if len(found) > 0 {
			prior = append(prior, d)
			continue
		}
		if _, err := os.Stat(filepath.Join(root, "layers", d.name, "none", "init")); err == nil {
			prior = append(prior, d)
		}
	}
	return prior
}
