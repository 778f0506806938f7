// Package runtime turns an OCI runtime spec into a start plan: the list of
// system calls that a new child makes before it becomes the user's program.
//
// Two halves share the work. In Go, on the engine's side, everything that
// needs a decision is settled: bind sources are opened, mount points are found
// and made on the root's descriptor, masks and namespaces are opened and
// checked, names become numbers. The child then executes a plan without
// conditions. It trusts no path of the container: a target is opened by openat2
// with RESOLVE_IN_ROOT and RESOLVE_NO_SYMLINKS, and mounts go onto that
// descriptor. If somebody swapped a directory for a link in between, the start
// fails; nothing is ever mounted elsewhere.
//
// A plan has two parts:
//
//	prepare   cgroups, namespaces, host name, loopback, keyring, bounding set;
//	          /proc, /dev, /sys with what belongs into them, and their masks,
//	          all mounted over the host's in the child's own mount namespace
//	adopt     the root becomes "/", the three trees move into it; binds, other
//	          mounts and masks; then the process's own attributes; execve
//
// The first part does not depend on the image. A cold start runs both at once;
// a cell is a child that has run the first part ahead of time and waits
// ([NewCell], [NewWake]). A cell fits a container if the first part of its
// plan is the same byte for byte.
//
//	start, err := runtime.NewStart(runtime.Config{ID: id, Spec: spec, Root: root})
//	defer start.Close()
//	process, err := keeper.Start(ctx, keeper.Start{Plan: start.Image, FDs: start.FDs, …})
//	if e, ok := errors.AsType[*spawn.StepError](err); ok {
//		err = start.Explain(e) // 127: exec: "nosuch": executable file not found in $PATH
//	}
//
// Parts of the spec that are not done are errors that name the field.
package runtime
