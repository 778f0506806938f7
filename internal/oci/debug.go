package oci

import (
	"strings"

	"github.com/tare-engine/tare/internal/linux/spawn"
)

// steps prints the names of a plan's steps. Their data, which holds the
// environment, is not for a log.
type steps struct{ plan *spawn.Plan }

func (s steps) String() string {
	names := make([]string, s.plan.Len())
	for i := range names {
		names[i] = s.plan.StepName(i)
	}
	return strings.Join(names, ", ")
}
