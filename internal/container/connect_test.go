package container

import (
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/store"
)

// TestContainersThatGoKeepTheirNetworks: a record that is written while the
// container is being removed would bring it back at the next start.
func TestContainersThatGoKeepTheirNetworks(t *testing.T) {
	s := New(Config{DataRoot: t.TempDir(), ExecRoot: t.TempDir()}, nil, nil, nil, event.NewLog(), store.New(), nil)
	c := testContainer(t, s.index, ident.New(), "x")
	for _, status := range []Status{Removing, Dead} {
		c.publish(func(v *View) { v.Status = status })
		if err := s.Connections().Connect(t.Context(), c.ID, "bridge", &network.EndpointSettings{}); !errdefs.Is(err, errdefs.Conflict) {
			t.Errorf("%s: connect: %v", status, err)
		}
		if err := s.Connections().Disconnect(c.ID, "bridge"); !errdefs.Is(err, errdefs.Conflict) {
			t.Errorf("%s: disconnect: %v", status, err)
		}
	}
	if !s.records.taken(c.View().Record) {
		t.Error("a record was written")
	}
}
