package main

import (
	"context"

	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/session/auth/authprovider"

	"github.com/tare-engine/tare/cmd/tare/credential"
)

// credentials finds what `tare login` and `docker login` have kept.
func credentials(path string) (authprovider.AuthConfigProvider, error) {
	store, err := credential.Open(path)
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
		a, err := store.Get(credential.ServerOf(host))
		if err != nil {
			return types.AuthConfig{}, err
		}
		return types.AuthConfig{
			Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress,
			IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
		}, nil
	}, nil
}
