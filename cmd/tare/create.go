package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

// createOptions are those of create and run alike.
type createOptions struct {
	container opts.Container
	name      string
	platform  string
	pull      string // always, missing, never
	quiet     bool
	rootfs    string
	replace   bool
}

func (o *createOptions) add(f *pflag.FlagSet) {
	o.container.Add(f)
	f.StringVar(&o.name, "name", "", "Name of the container")
	f.StringVar(&o.platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "Platform to choose from an image that has several, such as linux/arm64")
	f.StringVar(&o.pull, "pull", pullMissing, `Pull the image before ("always", "missing", "never")`)
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Do not show the progress of a pull")
	f.BoolVar(&o.replace, "replace", false, "Remove a container of the same name first (Tare's engine only)")
	f.StringVar(&o.rootfs, "rootfs", "", "Run from a directory of the engine's host instead of an image")
	opts.AddUntrusted(f)
}

// Values of --pull.
const (
	pullAlways  = "always"
	pullMissing = "missing"
	pullNever   = "never"
)

func newCreateCommand(c *cli) *cobra.Command {
	o := &createOptions{}
	cmd := &cobra.Command{
		Use:         "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short:       "Create a container without starting it",
		Long:        "Exit codes: 0 done · 1 the engine refused · 125 a flag makes no sense",
		Args:        o.args,
		Annotations: aliases("container create", "create"),
		RunE: o.requested(c, func(cmd *cobra.Command, cl *client.Client, req container.CreateRequest) error {
			resp, err := o.create(cmd.Context(), c, cl, req)
			if text, ok := badReference(err); ok {
				return errors.New(text)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, resp.ID)
			return err
		}),
	}
	cmd.Flags().SetInterspersed(false)
	o.add(cmd.Flags())
	c.completeExtensions(cmd)
	return cmd
}

// requested wraps what is done with the request that the flags make.
func (o *createOptions) requested(c *cli, do func(*cobra.Command, *client.Client, container.CreateRequest) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cl, err := c.connect()
		if err != nil {
			return err
		}
		req, err := o.request(c, args)
		if err != nil {
			return o.fail(cmd, err)
		}
		return do(cmd, cl, req)
	}
}

// args wants an image, unless a directory stands in for it.
func (o *createOptions) args(cmd *cobra.Command, args []string) error {
	if len(args) == 0 && o.rootfs == "" {
		return tooFewArgs(cmd, 1)
	}
	return nil
}

// fail is the end of a create or run that made no container.
func (o *createOptions) fail(cmd *cobra.Command, err error) error {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e
	}
	if text, ok := badReference(err); ok {
		err = errors.New(text)
	}
	return notRun(cmd, 125, err)
}

// badReference is the text of an engine that does not understand a reference.
// Docker's command line reads references itself and says so in its own name.
func badReference(err error) (string, bool) {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || !strings.HasPrefix(e.Message, "invalid reference format") {
		return "", false
	}
	return e.Message, true
}

// notRun tells why there is no process, and where to read on.
func notRun(cmd *cobra.Command, code int, err error) error {
	return &exitError{code, fmt.Sprintf("%s: %v\n\nRun '%s --help' for more information", program, err, cmd.CommandPath())}
}

// request makes the body of a create request of the flags.
func (o *createOptions) request(c *cli, args []string) (container.CreateRequest, error) {
	switch o.pull {
	case pullAlways, pullMissing, pullNever:
	default:
		return container.CreateRequest{}, fmt.Errorf("invalid pull option: '%s': must be one of %q, %q or %q", o.pull, pullAlways, pullMissing, pullNever)
	}
	image := ""
	if o.rootfs == "" {
		image, args = args[0], args[1:]
	}
	req, err := o.container.Request(image, args)
	if err != nil {
		return req, err
	}
	addProxies(req.Config, c.config.Proxies, c.client.Host())
	if o.container.CIDFile == "" {
		return req, nil
	}
	if _, err := os.Lstat(o.container.CIDFile); !errors.Is(err, fs.ErrNotExist) {
		return req, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", o.container.CIDFile)
	}
	return req, nil
}

// create makes the container, pulling its image if need be, and tells what
// there is to tell.
func (o *createOptions) create(ctx context.Context, c *cli, cl *client.Client, req container.CreateRequest) (container.CreateResponse, error) {
	var resp container.CreateResponse
	how, err := o.how()
	if err != nil {
		return resp, err
	}
	err = o.withImage(ctx, c, cl, req.Image, func() error {
		resp, err = cl.ContainerCreate(ctx, how, req)
		return err
	})
	if err != nil {
		return resp, err
	}
	return resp, o.created(c, resp.ID, resp.Warnings)
}

func (o *createOptions) how() (api.CreateOptions, error) {
	if o.replace && o.name == "" {
		return api.CreateOptions{}, errors.New("--replace needs --name: it says which container is replaced")
	}
	platform, err := parsePlatform(o.platform)
	return api.CreateOptions{Name: o.name, Platform: platform, Rootfs: o.rootfs, Replace: o.replace}, err
}

// created prints the warnings and writes the file of the id.
func (o *createOptions) created(c *cli, id string, warnings []string) error {
	for _, w := range warnings {
		fmt.Fprintln(c.err, "WARNING: "+safe(w))
	}
	if o.container.CIDFile == "" {
		return nil
	}
	f, err := os.OpenFile(o.container.CIDFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		_, err = f.WriteString(id)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("failed to write the container ID to the file: %w", err)
	}
	return nil
}

// withImage does what needs the image, and once more after a pull if the
// image is missing.
func (o *createOptions) withImage(ctx context.Context, c *cli, cl *client.Client, image string, do func() error) error {
	if o.pull == pullAlways && image != "" {
		if err := o.pullImage(ctx, c, cl, image); err != nil {
			return err
		}
	}
	err := do()
	if o.pull != pullMissing || !client.IsNotFound(err) || !strings.Contains(strings.ToLower(err.Error()), "no such image") {
		return err
	}
	if !o.quiet {
		fmt.Fprintf(c.err, "Unable to find image '%s' locally\n", safe(familiar(canonical(withTag(image)))))
	}
	if err := o.pullImage(ctx, c, cl, image); err != nil {
		return err
	}
	return do()
}

// addProxies passes the proxies of the configuration file on to the
// container, except where it has its own.
func addProxies(config *container.Config, proxies map[string]proxy, host string) {
	for _, e := range proxyEnv(proxies, host) {
		if name, _, _ := strings.Cut(e, "="); !hasEnv(config.Env, name) {
			config.Env = append(config.Env, e)
		}
	}
}

// proxyEnv is the proxies of the configuration file for an engine, as NAME=VALUE.
func proxyEnv(proxies map[string]proxy, host string) (env []string) {
	p, ok := proxies[host]
	if !ok {
		p = proxies["default"]
	}
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", p.HTTPProxy}, {"HTTPS_PROXY", p.HTTPSProxy}, {"NO_PROXY", p.NoProxy}, {"FTP_PROXY", p.FTPProxy}, {"ALL_PROXY", p.AllProxy},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value)
		}
	}
	return env
}

func hasEnv(env []string, name string) bool {
	for _, e := range env {
		if n, _, _ := strings.Cut(e, "="); n == name {
			return true
		}
	}
	return false
}
