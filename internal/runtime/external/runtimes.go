// Package external runs containers by other runtimes: programs with the command
// line that the OCI's runtimes share, such as runc and crun.
//
//	r, ok := runtimes.Get("runc")
//	c, err := home.New(r, id)           // a bundle of its own
//	s, err := c.Start(spec, root)       // two plans: create, start
//	… the keeper executes them; then the container's process is its child …
//	err = c.Kill(syscall.SIGTERM)
//	err = c.Delete()                    // nothing is left of it
//
// The program is an ordinary process that the keeper starts. It sees the mounts
// of the engine, not the few of the keeper, in a namespace of its own, where the
// container's root is mounted: nothing of that is to be seen on the host, and
// nothing is left when the program has ended and the container with it.
//
//	EXECROOT/bundles/ID/        0700, from before the start until Delete
//	  config.json               the OCI spec
//	  runtime.json              which runtime has the container, for the next engine
//	  rootfs/                   where the root is mounted, seen by the runtime only
//	  log.json stderr           what the runtime says
//	EXECROOT/runtimes/NAME/     the runtime's own state (--root)
package external

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Own is the name of the engine's own runtime, which is no program.
const Own = "tare"

// Runtime is a program with the OCI command line.
type Runtime struct {
	Name string   // by which containers ask for it
	Path string   // of the program; without a slash it is looked for in PATH
	Args []string `json:",omitempty"` // in front of each command
}

// Runtimes are those that containers may ask for. Safe for concurrent use.
type Runtimes struct{ now atomic.Pointer[table] }

// table is never changed once it is in use.
type table struct {
	byName map[string]Runtime
	def    string
}

// Replace takes others into use.
func (r *Runtimes) Replace(by *Runtimes) { r.now.Store(by.now.Load()) }

// known are the runtimes that are registered where the host has them.
var known = []string{"runc", "crun"}

// NewRuntimes returns the engine's own runtime, the host's, and the registered
// ones, which replace those of their name. def is for containers that name none;
// empty: the engine's own.
func NewRuntimes(registered []Runtime, def string) (*Runtimes, error) {
	r := &table{byName: map[string]Runtime{Own: {Name: Own, Path: "tare-runtime"}}, def: Own}
	for _, name := range known {
		if path, err := exec.LookPath(name); err == nil {
			r.byName[name] = Runtime{Name: name, Path: path}
		}
	}
	for _, x := range registered {
		if err := CheckName(x.Name); err != nil {
			return nil, err
		}
		if x.Path == "" {
			return nil, fmt.Errorf("runtime %q: a path is required", x.Name)
		}
		r.byName[x.Name] = x
	}
	if def != "" {
		if isShim(def) {
			return nil, errShim(def)
		}
		if _, ok := r.byName[def]; !ok {
			return nil, fmt.Errorf("specified default runtime '%s' does not exist", def)
		}
		r.def = def
	}
	all := new(Runtimes)
	all.now.Store(r)
	return all, nil
}

// CheckName refuses names that a runtime cannot be registered by. A name
// becomes a directory's.
func CheckName(name string) error {
	switch {
	case name == Own:
		return fmt.Errorf("runtime name %q is reserved: it is the engine's own runtime", name)
	case isShim(name):
		return errShim(name)
	case name == "" || len(name) > 64 || name[0] == '.' || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != "":
		return fmt.Errorf("invalid runtime name %q: only [a-zA-Z0-9_.-] are allowed, 64 at most", name)
	}
	return nil
}

// Resolve returns the name of the runtime that a container gets: what it asks
// for, or the default.
func (r *Runtimes) Resolve(name string) (string, error) {
	t := r.now.Load()
	switch _, ok := t.byName[name]; {
	case name == "":
		return t.def, nil
	case ok:
		return name, nil
	case isShim(name):
		return "", errdefs.As(errdefs.InvalidArgument, errShim(name))
	}
	if len(name) > 64 {
		name = name[:64] + "..."
	}
	return "", errdefs.New(errdefs.InvalidArgument, "unknown or invalid runtime name: %s", name)
}

// Get returns a runtime of other people's; false: there is none of that name.
func (r *Runtimes) Get(name string) (Runtime, bool) {
	x, ok := r.now.Load().byName[name]
	return x, ok && name != Own
}

// Default is the name of the runtime of containers that name none.
func (r *Runtimes) Default() string { return r.now.Load().def }

// All returns all runtimes in the order of their names.
func (r *Runtimes) All() []Runtime {
	var all []Runtime
	t := r.now.Load()
	for _, name := range slices.Sorted(maps.Keys(t.byName)) {
		all = append(all, t.byName[name])
	}
	return all
}

// isShim reports whether a name is that of a containerd shim (runtime v2):
// a program that speaks another language than the OCI's.
func isShim(name string) bool {
	return strings.HasPrefix(name, "io.containerd.") || strings.Contains(name, "containerd-shim-")
}

// errShim names what to use instead: the shim's own runtime.
func errShim(name string) error {
	instead := "register the runtime's OCI command line"
	for _, oci := range []string{"runc", "crun", "runsc", "youki"} {
		if strings.Contains(name, oci) {
			instead = "use --runtime " + oci + ", registered by --add-runtime " + oci + "=PATH unless \"info\" lists it"
		}
	}
	return fmt.Errorf("runtime %q is a shim of containerd, which this engine does not run; %s", name, instead)
}
