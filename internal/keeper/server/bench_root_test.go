//go:build root

package server

import (
	"strconv"
	"testing"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// BenchmarkStart measures from the engine's request to the answer (exec) and
// to the exit, with five namespaces and without.
func BenchmarkStart(b *testing.B) {
	for name, flags := range map[string]uint64{"bare": 0, "namespaces": namespaces} {
		b.Run(name, func(b *testing.B) {
			r := newEngineRig(b)
			p := spawn.NewPlan()
			p.ResetSignals()
			p.CloseOnExec()
			p.Exec("/bin/true", "", []string{"true"}, nil)
			im := p.Image()
			i := 0
			for b.Loop() {
				i++
				s := keeper.Start{ID: "b" + strconv.Itoa(i), Flags: flags, CgroupFD: -1, Plan: im}
				q, err := r.Start(b.Context(), s)
				if err != nil {
					b.Fatal(err)
				}
				q.Files.Close()
				r.exit(s.ID)
				if err := r.Ack(b.Context(), s.ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
