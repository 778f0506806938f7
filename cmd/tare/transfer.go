package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/term"
	"github.com/tare-engine/tare/cmd/tare/credential"
	"github.com/tare-engine/tare/cmd/tare/format"
	"github.com/tare-engine/tare/cmd/tare/progress"
)

// safe is a text of others that goes to the terminal.
func safe(s string) string { return format.Escape(s) }

// isScreen reports whether what is written to a file may change in place: it is a
// terminal, and not one that says of itself that it cannot.
func isScreen(f *os.File) bool { return term.IsTerminal(f.Fd()) && os.Getenv("TERM") != "dumb" }

// newProgress shows how an operation gets on, in place if out is a terminal.
func newProgress(out *os.File, quiet bool) *progress.Display {
	switch {
	case quiet:
		return progress.New(io.Discard, nil)
	case !isScreen(out):
		return progress.New(out, nil)
	}
	return progress.New(out, func() (rows, cols int) {
		ws, err := term.GetWinsize(out.Fd())
		if err != nil {
			return 0, 0
		}
		return int(ws.Height), int(ws.Width)
	})
}

// transfer does a pull or push and shows on stdout how it gets on. First it
// tells what it makes of the reference, unless the engine can make nothing of it.
func (c *cli) transfer(tell string, quiet bool, do func(report func(jsonstream.Message) error) error) error {
	p := newProgress(c.out, quiet)
	if quiet {
		tell = ""
	}
	begin := func() error {
		_, err := io.WriteString(c.out, tell)
		tell = ""
		return err
	}
	err := do(func(m jsonstream.Message) error {
		if err := begin(); err != nil {
			return err
		}
		return p.Show(m)
	})
	if text, ok := badReference(err); ok {
		return errors.New(text)
	}
	return errors.Join(begin(), p.Close(), err)
}

// credentials returns those for the registry that a reference names, nil if the
// user has none. Who cannot be asked for them is told of: the registry may do
// without.
func (c *cli) credentials(ref string) *registry.AuthConfig {
	domain, _ := splitDomain(ref)
	server := credential.ServerOf(domain)
	var a registry.AuthConfig
	store, err := c.credentialStore()
	if err == nil {
		a, err = store.Get(server)
	}
	if err != nil {
		fmt.Fprintf(c.err, "WARNING: no credentials for %s: %s\n", safe(domain), format.EscapeLines(err.Error()))
		return nil
	}
	if a == (registry.AuthConfig{ServerAddress: server}) {
		return nil
	}
	return &a
}

func (c *cli) credentialStore() (*credential.Store, error) {
	config, err := c.settings()
	if err != nil {
		return nil, err
	}
	return credential.Open(config.path())
}
