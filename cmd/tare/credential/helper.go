package credential

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/moby/moby/api/types/registry"
)

// helper is a program that keeps credentials, docker-credential-NAME. It reads
// from its stdin and answers on its stdout; errors of ours have what it says
// there, as that is all there is to know about them.
type helper string

// tokenName stands for the user's name where the secret is an identity token.
const tokenName = "<token>"

func (h helper) get(server string) (registry.AuthConfig, error) {
	a := registry.AuthConfig{ServerAddress: server}
	c, err := client.Get(h.program, server)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return a, nil
	case err != nil:
		return a, err
	case c.Username == tokenName:
		a.IdentityToken = c.Secret
	default:
		a.Username, a.Password = c.Username, c.Secret
	}
	return a, nil
}

func (h helper) set(a registry.AuthConfig) error {
	c := &credentials.Credentials{ServerURL: a.ServerAddress, Username: a.Username, Secret: a.Password}
	if a.IdentityToken != "" {
		c.Username, c.Secret = tokenName, a.IdentityToken
	}
	return client.Store(h.program, c)
}

func (h helper) erase(server string) error { return client.Erase(h.program, server) }

func (h helper) program(args ...string) client.Program {
	if strings.ContainsAny(string(h), `/\`) {
		return misnamed(h)
	}
	cmd := exec.Command("docker-credential-"+string(h), args...)
	cmd.Stderr = os.Stderr
	return &process{cmd}
}

// process is a run of a helper.
type process struct{ cmd *exec.Cmd }

func (p *process) Input(in io.Reader) { p.cmd.Stdin = in }

// Output returns what the helper says. If it fails that becomes a part of an
// error, so an answer with credentials is left out then.
func (p *process) Output() ([]byte, error) {
	out, err := p.cmd.Output()
	if err != nil && json.Valid(out) {
		out = nil
	}
	return out, err
}

// misnamed is a helper whose name would be a path.
type misnamed string

func (m misnamed) Input(io.Reader) {}

func (m misnamed) Output() ([]byte, error) {
	return nil, fmt.Errorf("invalid name %q of a helper", string(m))
}

// installedHelper is the one that new users get, "" if this machine has none.
func installedHelper() string {
	name := "secretservice"
	switch runtime.GOOS {
	case "darwin":
		name = "osxkeychain"
	case "windows":
		name = "wincred"
	default:
		if _, err := exec.LookPath("pass"); err == nil {
			name = "pass"
		}
	}
	if _, err := exec.LookPath("docker-credential-" + name); err != nil {
		return ""
	}
	return name
}
