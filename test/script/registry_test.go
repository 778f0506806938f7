//go:build root

package script

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// registries are those that sessions may use, on loopback:
//
//	$REGISTRY        lets everybody in
//	$REGISTRY_BASIC  wants a password with each request
//	$REGISTRY_TOKEN  wants tokens, and gives identity tokens
//
// $USERNAME and $PASSWORD are good for the last two.
type registries struct{ open, basic, token *registrytest.Registry }

func startRegistries(t *testing.T) registries {
	t.Helper()
	return registries{
		open:  registrytest.New(t, registrytest.Options{}),
		basic: registrytest.New(t, registrytest.Options{Auth: registrytest.Basic}),
		token: registrytest.New(t, registrytest.Options{Auth: registrytest.Token}),
	}
}

func (r registries) name(env *testscript.Env) {
	env.Setenv("REGISTRY", r.open.Host)
	env.Setenv("REGISTRY_BASIC", r.basic.Host)
	env.Setenv("REGISTRY_TOKEN", r.token.Host)
	env.Setenv("USERNAME", registrytest.Username)
	env.Setenv("PASSWORD", registrytest.Password)
}
