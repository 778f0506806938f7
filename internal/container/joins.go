package container

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/linux/proc"
	"github.com/tare-engine/tare/internal/runtime"
)

// join names a container whose namespace another one joins.
//
// A namespace belongs to a user namespace, and only who is in that has rights
// over it. So a container with ids of its own that joins those of others is in
// their user namespace, as with dockerd, and has their ids.
type join struct{ what, ref string }

func joinsOf(h *container.HostConfig) []join {
	all := []join{
		{"network", h.NetworkMode.ConnectedContainer()}, {"PID", h.PidMode.Container()},
		{"IPC", h.IpcMode.Container()}, {"user", spec.UsernsContainer(h.UsernsMode)},
	}
	return slices.DeleteFunc(all, func(j join) bool { return j.ref == "" })
}

// checkDonors refuses a container that joins processes or memory of one that does
// not exist. That of a network may come later, as with Docker.
func checkDonors(h *container.HostConfig, all *index.Index[*Container]) error {
	for _, ref := range []string{h.PidMode.Container(), h.IpcMode.Container()} {
		if ref == "" {
			continue
		}
		if _, err := all.Find(ref); err != nil { // not NotFound: that is for images that clients have to pull
			return errdefs.As(errdefs.InvalidArgument, err)
		}
	}
	return nil
}

// joinedIDs returns the map of those that a container with ids of its own joins;
// nil: it joins nobody. A donor that does not exist yet is an error of the start,
// unless only it could say which ids.
func joinedIDs(h *container.HostConfig, all *index.Index[*Container], must bool) (m *idrange.Map, err error) {
	for _, j := range joinsOf(h) {
		c, err := all.Find(j.ref)
		if err != nil && !must && errdefs.Is(err, errdefs.NotFound) {
			continue
		}
		if err != nil { // clients take NotFound for an image that they have to pull
			return nil, errdefs.New(errdefs.InvalidArgument, "cannot join the %s namespace: %w", j.what, err)
		}
		theirs := c.View().IDs
		switch {
		case theirs == nil:
			return nil, errdefs.New(errdefs.InvalidArgument, "cannot join the %s namespace of container %s when user namespaces are enabled: it has the ids of the host (use --userns=host)", j.what, j.ref)
		case m != nil && !sameIDs(m, theirs):
			return nil, errdefs.New(errdefs.InvalidArgument, "cannot join the %s namespace of container %s beside that of another: their user namespaces have different ids", j.what, j.ref)
		}
		m = theirs
	}
	return m, nil
}

func sameIDs(a, b *idrange.Map) bool {
	return a != nil && b != nil && runtime.SameMaps(a.UIDs, b.UIDs) && runtime.SameMaps(a.GIDs, b.GIDs)
}

// joinUser opens the user namespace of those whose namespaces are joined, and
// returns the process that names it; 0: the container has its own, or none.
func (l *launch) joinUser() (pid int, err error) {
	if l.view.IDs == nil {
		return 0, nil
	}
	for _, j := range joinsOf(l.view.HostConfig) {
		if pid, err = l.processOf(j.what, true, j.ref); err != nil {
			return 0, err
		}
		if err := l.joinUserOf(j, pid); err != nil {
			return 0, err
		}
	}
	return pid, nil
}

// donor is a container whose namespace is joined, as it was when that was found.
type donor struct {
	what string
	*View
}

// there returns an error if a donor's process has ended, else err. Namespaces are
// opened by its pid, which may be another process's then, even one of the host.
func (l *launch) there(err error) error {
	for _, d := range l.donors {
		if !alive(d.Pid, d.Ticks) {
			return d.notRunning()
		}
	}
	return err
}

func (d donor) notRunning() error {
	return errdefs.New(errdefs.Conflict, "cannot join %s namespace of a non running container: %s", d.what, d.ID)
}

func (l *launch) joinUserOf(j join, pid int) error {
	other, err := l.index.Find(j.ref)
	if err != nil {
		return err
	}
	if !sameIDs(other.View().IDs, l.view.IDs) {
		return errdefs.New(errdefs.Conflict, "cannot join the %s namespace of container %s: this container was made with the ids of another one", j.what, j.ref)
	}
	ns, err := proc.OpenNamespace("/proc/"+strconv.Itoa(pid)+"/ns/user", syscall.CLONE_NEWUSER)
	if err != nil {
		return fmt.Errorf("join the user namespace of container %s: %w", j.ref, err)
	}
	if l.userns == nil {
		l.userns = ns
		return nil
	}
	defer ns.Close()
	a, err1 := l.userns.Stat()
	b, err2 := ns.Stat()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if !os.SameFile(a, b) {
		return errdefs.New(errdefs.Conflict, "cannot join the %s namespace of container %s beside that of another: they are in different user namespaces (let one of them join the other's)", j.what, j.ref)
	}
	return nil
}

func (l *launch) closeNamespaces() {
	for _, f := range append(l.joined, l.userns, l.netns) {
		if f != nil {
			f.Close()
		}
	}
}
