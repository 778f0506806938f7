package tree_test

import (
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/model"
)

// BenchmarkLookup is what the union itself takes, without the way to and from its
// process: for a name of the lowest of three branches, and for one that is not there.
func BenchmarkLookup(b *testing.B) {
	m := model.New(model.NewBranch(true, true), model.NewBranch(false, false), model.NewBranch(false, false))
	m.Branches[2].Files["/f"] = &model.File{Kind: syscall.S_IFREG, Mode: 0o644}
	d := newDisk(b, b.TempDir(), m, union.Defaults())
	defer d.tree.Close()
	for _, name := range []string{"f", "missing"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if n, _, err := d.tree.Lookup(d.tree.Root(), name); err == nil {
					d.tree.Forget(n, 1)
				}
			}
		})
	}
}
