package runtime

import (
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Kernels before 5.12 change the attributes of a mount only where it is
// attached, and by a path (mount.Legacy). What a plan would do to a detached
// mount it does there right after the move: nobody but the plan is in the
// container yet.

// sealLegacy is sealFS for a mount that is attached by now.
func (b *builder) sealLegacy(p *mountPoint, m spawn.Arg) {
	if !mount.Legacy() {
		return
	}
	var last mount.Change
	for _, c := range p.o.propagation {
		last = c
	}
	b.remount(p.dest, m, p.o.attr.Set|p.o.recAttr.Set, last)
}
