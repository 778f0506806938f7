package runtime

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// mountOptions are the parsed options of one mount of the spec.
type mountOptions struct {
	bind, recursive bool
	attr            mount.Change   // of the mount itself
	recAttr         mount.Change   // of it and all below (rro, rnosuid …)
	propagation     []mount.Change // in the order given
	data            []string       // the file system's own; of a bind: see Ignored

	idmap, idmapRecursive bool // ids are mapped
	noFollow              bool // a link at the place of the mount is covered itself
}

// attributes names what an option sets and clears; with "r" before it, for all
// mounts below as well.
var attributes = map[string]mount.Change{
	"ro": {Set: mount.ReadOnly}, "rw": {Clear: mount.ReadOnly},
	"nosuid": {Set: mount.NoSuid}, "suid": {Clear: mount.NoSuid},
	"nodev": {Set: mount.NoDev}, "dev": {Clear: mount.NoDev},
	"noexec": {Set: mount.NoExec}, "exec": {Clear: mount.NoExec},
	"noatime": {Set: mount.NoAtime, Clear: mount.AtimeMask}, "atime": {Clear: mount.AtimeMask},
	"relatime": {Clear: mount.AtimeMask}, "norelatime": {Clear: mount.AtimeMask},
	"strictatime": {Set: mount.StrictAtime, Clear: mount.AtimeMask}, "nostrictatime": {Clear: mount.AtimeMask},
	"nodiratime": {Set: mount.NoDirAtime}, "diratime": {Clear: mount.NoDirAtime},
	"nosymfollow": {Set: mount.NoSymFollow}, "symfollow": {Clear: mount.NoSymFollow},
}

var propagations = map[string]mount.Change{
	"private": {Propagation: mount.Private}, "rprivate": {Propagation: mount.Private, Recursive: true},
	"slave": {Propagation: mount.Slave}, "rslave": {Propagation: mount.Slave, Recursive: true},
	"shared": {Propagation: mount.Shared}, "rshared": {Propagation: mount.Shared, Recursive: true},
	"unbindable": {Propagation: mount.Unbindable}, "runbindable": {Propagation: mount.Unbindable, Recursive: true},
}

// destNoFollow is crun's word for it.
const destNoFollow = "dest-nofollow"

// refused are options of other runtimes that have no meaning here yet.
var refused = []string{"tmpcopyup"}

func parseOptions(m specs.Mount) (o mountOptions, err error) {
	o.bind = m.Type == "bind"
	for _, opt := range m.Options {
		if c, ok := propagations[opt]; ok {
			o.propagation = append(o.propagation, c)
			continue
		}
		if c, ok := attributes[opt]; ok {
			o.attr = merge(o.attr, c)
			continue
		}
		if c, ok := attributes[opt[min(1, len(opt)):]]; ok && opt[0] == 'r' {
			o.recAttr = merge(o.recAttr, c)
			o.recAttr.Recursive = true
			continue
		}
		switch {
		case opt == "bind", opt == "rbind":
			o.bind, o.recursive = true, opt == "rbind"
		case opt == "idmap", opt == "ridmap":
			o.idmap, o.idmapRecursive = true, opt == "ridmap"
		case opt == destNoFollow:
			o.noFollow = true
		case opt == "" || opt == "defaults":
		case slices.Contains(refused, opt):
			return o, unsupported("mounts: " + m.Destination + ": option " + opt)
		default:
			o.data = append(o.data, opt)
		}
	}
	o.idmap = o.idmap || len(m.UIDMappings)+len(m.GIDMappings) > 0
	if o.idmap && !o.bind {
		return o, invalid("mounts: %s: only a bind mount can map ids", m.Destination)
	}
	if o.noFollow && !o.bind {
		return o, invalid("mounts: %s: option %s is for bind mounts", m.Destination, destNoFollow)
	}
	return o, nil
}

// merge adds a later option to earlier ones: the later wins.
func merge(a, b mount.Change) mount.Change {
	a.Set = a.Set&^b.Clear | b.Set
	a.Clear = a.Clear&^(b.Set&^mount.AtimeMask) | b.Clear
	return a
}

// changes are the steps that give a mount its attributes, in order.
func (o mountOptions) changes() []mount.Change {
	var out []mount.Change
	for _, c := range []mount.Change{o.attr, o.recAttr} {
		if c.Set|c.Clear != 0 {
			out = append(out, c)
		}
	}
	return append(out, o.propagation...)
}

// MountOptions are the names of all options that are not a file system's own.
func MountOptions() []string {
	out := []string{"bind", "rbind", "defaults", destNoFollow}
	for name := range attributes {
		out = append(out, name, "r"+name)
	}
	for name := range propagations {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
