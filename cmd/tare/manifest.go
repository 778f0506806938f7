package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/manifestlist"
)

// The manifest commands work on lists in the user's directory, as docker's
// command line has them; what is to be known of a registry, or put there, the
// engine is asked for.

const insecureHelp = "Take an unknown certificate, or plain HTTP, of the registry"

// manifestLists are those of the user.
func (c *cli) manifestLists() manifestlist.Store {
	return manifestlist.NewStore(filepath.Join(c.global.config, "manifests"))
}

// remoteManifest has the engine read a manifest from a registry.
func (c *cli) remoteManifest(ctx context.Context, o api.ManifestOptions) (api.RegistryManifest, error) {
	cl, err := c.connect()
	if err != nil {
		return api.RegistryManifest{}, err
	}
	o.Auth = c.credentials(o.Ref)
	m, err := cl.RegistryManifest(ctx, o)
	return m, bare(err)
}

// bare is an engine's refusal without the engine: docker's command line asks
// registries itself.
func bare(err error) error {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}
