package opts

import (
	"github.com/spf13/pflag"

	"github.com/tare-engine/tare/api"
)

// extension is the flag of an option that Docker does not have. What is wrong
// with a value the engine says, to all clients alike.
type extension struct {
	*api.Extension
	given bool
	value string // of the annotation
}

// addExtensions declares them.
func (c *Container) addExtensions(f *pflag.FlagSet) {
	for i := range api.ExtensionTable {
		x := &extension{Extension: &api.ExtensionTable[i]}
		f.Var(x, x.Name, x.Usage)
		c.extensions = append(c.extensions, x)
	}
}

// Extensions are options that Docker does not have which may be changed later.
type Extensions []*extension

// AddLive declares the flags of such options.
func (l *Extensions) AddLive(f *pflag.FlagSet) {
	for i := range api.ExtensionTable {
		if x := (&extension{Extension: &api.ExtensionTable[i]}); x.Live {
			f.Var(x, x.Name, x.Usage)
			*l = append(*l, x)
		}
	}
}

// Annotations are the values that were given, nil if none was.
func (l Extensions) Annotations() map[string]string {
	var all map[string]string
	for _, x := range l {
		if !x.given {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[x.Annotation()] = x.value
	}
	return all
}

// Set takes a value; of several the last counts, or all do.
func (x *extension) Set(s string) error {
	if x.given && x.List {
		s = x.value + "," + s
	}
	x.given, x.value = true, s
	return nil
}

// String is empty: help shows no default.
func (x *extension) String() string { return "" }

// Type is what help calls the value.
func (x *extension) Type() string {
	if x.List {
		return "list"
	}
	return "string"
}
