package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/term"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/credential"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type loginOptions struct {
	username, password string
	stdin              bool
}

func newLoginCommand(c *cli) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] [SERVER]",
		Short: "Log in to a registry",
		Long:  "SERVER is a host with its port; without one it is Docker Hub.",
		Args:  rangeArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, c); err != nil {
				return err
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return runLogin(cmd.Context(), c, cl, o, strings.Join(args, ""))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.password, "password", "p", "", "Password or access token; others can see it in the list of processes")
	f.BoolVar(&o.stdin, "password-stdin", false, "Read the password or access token from STDIN")
	f.StringVarP(&o.username, "username", "u", "", "Name of the user")
	return cmd
}

// complete checks what the flags say, and reads what they say is to be read.
func (o *loginOptions) complete(cmd *cobra.Command, c *cli) error {
	given := cmd.Flags().Changed
	switch {
	case o.stdin && given("password"):
		return errors.New("conflicting options: cannot specify both --password and --password-stdin")
	case given("username") && strings.TrimSpace(o.username) == "":
		return errors.New("username is empty")
	case given("password") && o.password == "":
		return errors.New("password is empty")
	case given("password"):
		fmt.Fprintln(c.err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	case o.stdin && o.username == "":
		return errors.New("the --password-stdin option requires --username to be set")
	case o.stdin:
		text, err := io.ReadAll(c.in)
		if err != nil {
			return err
		}
		o.password = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
		if o.password == "" {
			return errors.New("password is empty")
		}
	}
	return nil
}

func runLogin(ctx context.Context, c *cli, cl *client.Client, o loginOptions, server string) error {
	store, err := c.credentialStore()
	if err != nil {
		return err
	}
	l := login{c, cl, store}
	a := registry.AuthConfig{ServerAddress: credential.ServerOf(server), Username: o.username, Password: o.password}
	known := ""
	if o.username == "" && o.password == "" {
		if old, err := store.Get(a.ServerAddress); err == nil && old.Username != "" && old.Password != "" {
			if done, err := l.again(ctx, old); done || err != nil {
				return err
			}
			known = old.Username
		}
	}
	if a.Username == "" || a.Password == "" {
		if err := ask(c.in, c.out, &a, known); err != nil {
			return err
		}
	}
	return l.do(ctx, a)
}

// login is what it takes to log in.
type login struct {
	c     *cli
	cl    *client.Client
	store *credential.Store
}

// again tries the credentials that the user has. done is false if they are not
// good any more.
func (l login) again(ctx context.Context, a registry.AuthConfig) (done bool, err error) {
	w := l.c.err
	fmt.Fprintf(w, "Authenticating with existing credentials... [Username: %s]\n", safe(a.Username))
	printNote(w, fmt.Sprintf("To login with a different account, run '%s logout' followed by '%s login'", program, program))
	fmt.Fprint(w, "\n\n")
	a.IdentityToken = "" // it is the password that is tried
	err = l.do(ctx, a)
	if _, refused := errors.AsType[*client.Error](err); !refused {
		return true, err
	}
	if client.StatusOf(err) == http.StatusUnauthorized {
		fmt.Fprintln(w, "Stored credentials invalid or expired")
	} else {
		fmt.Fprintln(w, "Login did not succeed, error:", format.EscapeLines(err.Error()))
	}
	return false, nil
}

// do tries credentials and keeps them, or the token that the registry gives for
// the password.
func (l login) do(ctx context.Context, a registry.AuthConfig) error {
	answer, err := l.cl.RegistryLogin(ctx, a)
	if err != nil {
		return err
	}
	if answer.IdentityToken != "" {
		a.Password, a.IdentityToken = "", answer.IdentityToken
	}
	plain, err := l.store.Set(a)
	if err != nil {
		return fmt.Errorf("Error saving credentials: %w", err)
	}
	if plain {
		fmt.Fprintf(l.c.err, "\nWARNING! Your credentials are stored unencrypted in '%s'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n\n", safe(l.c.config.path()))
	}
	if answer.Status != "" {
		fmt.Fprintln(l.c.out, safe(answer.Status))
	}
	return nil
}

// ask asks for the user's name and password, as far as they are not there. known
// is the name that is meant if none is typed.
func ask(in, out *os.File, a *registry.AuthConfig, known string) error {
	if !term.IsTerminal(in.Fd()) {
		return errors.New("Error: Cannot perform an interactive login from a non TTY device")
	}
	lines := bufio.NewReader(in)
	if a.Username == "" {
		prompt := "Username: "
		if known != "" {
			prompt = "Username (" + safe(known) + "): "
		}
		if a.ServerAddress == credential.Hub {
			fmt.Fprintln(out, "Log in with your Docker ID; an access token does as well as the password (https://hub.docker.com).")
		}
		typed, err := askLine(lines, out, prompt)
		if err != nil {
			return err
		}
		if a.Username = typed; typed == "" {
			a.Username = known
		}
		if a.Username == "" {
			return errors.New("Error: Non-null Username Required")
		}
	}
	if a.Password != "" {
		return nil
	}
	typed, err := askSecret(in, lines, out)
	if err != nil {
		return err
	}
	if typed == "" {
		return errors.New("Error: Password Required")
	}
	a.Password = typed
	return nil
}

// askSecret asks for what nobody is to see.
func askSecret(in *os.File, lines *bufio.Reader, out io.Writer) (string, error) {
	old, err := term.SaveState(in.Fd())
	if err != nil {
		return "", err
	}
	if err := term.DisableEcho(in.Fd(), old); err != nil {
		return "", err
	}
	restore := func() {
		term.RestoreTerminal(in.Fd(), old)
		fmt.Fprintln(out) // the user's was not echoed
	}
	defer restore()
	defer restoreOnSignal(restore)()
	return askLine(lines, out, "Password: ")
}

// askLine reads a line that is typed; the end of the input is one, too.
func askLine(lines *bufio.Reader, out io.Writer, prompt string) (string, error) {
	fmt.Fprint(out, prompt)
	text, err := lines.ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimSpace(text), err
}
