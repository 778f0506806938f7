package layer

import "github.com/tare-engine/tare/internal/linux/untar"

// Form says what a driver's directories hold. What else the drivers differ in
// outside of themselves follows from it.
type Form int

const (
	// Stacked: a layer's directory holds that layer, a container's what it has
	// changed, both with whiteouts as overlayfs has them. A mount merges them.
	Stacked Form = iota
	// Whole: a directory holds all that there is of a layer and those below, or of
	// a container; what a whiteout hides is not in it.
	Whole
	// Shared: as Whole, but what is as in the layer below takes no space.
	Shared
	// Branches: as Stacked, but whiteouts are files, as aufs has them, and names
	// that begin with ".wh." cannot be made in a container.
	Branches
)

// needsParent reports whether a layer is unpacked on top of a copy of what is
// below it, and so not before that. Otherwise layers are unpacked in any order.
func (f Form) needsParent() bool { return f == Whole || f == Shared }

// shares reports whether what is as in the layer below takes no space.
func (f Form) shares() bool { return f != Whole }

// whiteouts says what becomes of a layer's whiteouts when it is unpacked.
func (f Form) whiteouts() untar.Whiteouts {
	switch f {
	case Stacked:
		return untar.Overlay
	case Branches:
		return untar.Files
	}
	return untar.Remove
}

// mapsOwn reports whether a container's own directory is mounted with its ids
// mapped. What a stacked one has changed has the owners that the host sees.
func (f Form) mapsOwn() bool { return f == Whole || f == Shared }

// AnyOrder reports whether layers can be unpacked before those below them.
func (s *Service) AnyOrder() bool { return !s.driver.Form().needsParent() }

// Stacks reports whether directories of layers hold one layer each, to be merged by
// overlayfs, or else all that there is.
func (s *Service) Stacks() bool { return s.driver.Form() == Stacked }

// Lends reports whether layers lie in a form that others than our driver can read.
func (s *Service) Lends() bool { return s.driver.Form() != Branches && !s.opens() }
