package server

import (
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/tree"
)

// Branches lists the branches.
func (s *Server) Branches() []union.Branch { return s.tree.Branches() }

// Add puts branches at an index; -1 is below all others. All come, or none.
func (s *Server) Add(index int, list ...tree.Source) error {
	return s.changing(func() error { return s.tree.Add(index, list...) })
}

// SetCreate changes where something new is made.
func (s *Server) SetCreate(p union.Placement) { s.tree.SetCreate(p) }

// Modify changes what the union may do with a branch.
func (s *Server) Modify(b tree.Source) error {
	return s.changing(func() error { return s.tree.Modify(b) })
}

// Delete removes branches that are not in use, all or none. What the kernel only
// remembers counts as use; the caller can make it forget (mount.FS.Reconfigure).
func (s *Server) Delete(dirs ...string) error {
	return s.changing(func() error { return s.tree.Delete(dirs...) })
}
