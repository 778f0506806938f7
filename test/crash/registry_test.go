//go:build root && failpoint

package crash

import (
	"net"

	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// registry starts a registry, which ends with the current test, and returns the
// name of an image that it has.
func (b *box) registry() string {
	b.t.Helper()
	r := b.newRegistry()
	r.Put("app", "1", registrytest.Image{Layers: 2, Index: true})
	return r.Host + "/app:1"
}

// newRegistry starts a registry in the box's network.
func (b *box) newRegistry() *registrytest.Registry {
	b.t.Helper()
	ns := b.network()
	defer ns.Close()
	var l net.Listener
	err := netns.Do(ns, func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return registrytest.New(b.t, registrytest.Options{Listener: l})
}
