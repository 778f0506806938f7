package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/plugin"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

type pluginInstallOptions struct {
	grant, disable, anyRemote bool
	alias                     string
}

func newPluginInstallCommand(c *cli) *cobra.Command {
	var o pluginInstallOptions
	cmd := &cobra.Command{
		Use:   "install [OPTIONS] PLUGIN [KEY=VALUE...]",
		Short: "Fetch a plugin from a registry and start it",
		Args:  minArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runPluginInstall(ctx, c, cl, o, args[0], args[1:])
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.alias, "alias", "", "Name of the plugin here")
	f.BoolVar(&o.disable, "disable", false, "Do not start it")
	f.BoolVar(&o.grant, "grant-all-permissions", false, "Allow what it wants without a question")
	opts.AddUntrusted(f)
	return cmd
}

func runPluginInstall(ctx context.Context, c *cli, cl *client.Client, o pluginInstallOptions, remote string, settings []string) error {
	if strings.Contains(o.alias, "@") {
		return fmt.Errorf("invalid name: %s", o.alias)
	}
	full, err := normalize(remote)
	if err != nil {
		return err
	}
	req := client.PluginPullOptions{Remote: full, Auth: c.credentials(remote)}
	if o.alias != "" {
		req.Name = withTag(familiar(o.alias))
	}
	if req.Privileges, err = c.grant(ctx, cl, req, o.grant, remote); err != nil {
		return err
	}
	p := newProgress(c.out, false)
	err = cl.PluginPull(ctx, req, p.Show)
	if err = errors.Join(p.Close(), err); err != nil {
		return err
	}
	name := req.Name
	if name == "" {
		name = withTag(familiar(remote))
	}
	if err := finishPlugin(ctx, cl, o, name, settings); err != nil {
		// What was asked for is a plugin that runs: what cannot is not kept.
		return errors.Join(err, cl.PluginRemove(context.WithoutCancel(ctx), name, true))
	}
	_, err = fmt.Fprintln(c.out, "Installed plugin", safe(remote))
	return err
}

// finishPlugin does what is left when a plugin has come.
func finishPlugin(ctx context.Context, cl *client.Client, o pluginInstallOptions, name string, settings []string) error {
	if len(settings) > 0 {
		if err := cl.PluginSet(ctx, name, settings); err != nil {
			return err
		}
	}
	if o.disable {
		return nil
	}
	return cl.PluginEnable(ctx, name, 0)
}

// grant asks the user for what a plugin wants to be allowed.
func (c *cli) grant(ctx context.Context, cl *client.Client, o client.PluginPullOptions, all bool, shown string) (plugin.Privileges, error) {
	wants, err := cl.PluginPrivileges(ctx, o.Remote, o.Auth)
	if err != nil || all || len(wants) == 0 {
		return wants, err
	}
	fmt.Fprintf(c.out, "Plugin %q is requesting the following privileges:\n", shown)
	for _, w := range wants {
		fmt.Fprintf(c.out, " - %s: %s\n", safe(w.Name), safe(fmt.Sprint(w.Value)))
	}
	if !c.ask("Do you grant the above permissions?") {
		return nil, errors.New("permission denied while installing plugin " + shown)
	}
	return wants, nil
}

// ask asks a question that is answered by yes or no.
func (c *cli) ask(question string) bool {
	fmt.Fprintf(c.out, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(c.in).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

func newPluginUpgradeCommand(c *cli) *cobra.Command {
	var o pluginInstallOptions
	cmd := &cobra.Command{
		Use:   "upgrade [OPTIONS] PLUGIN [REMOTE]",
		Short: "Fetch another version of a plugin",
		Args:  rangeArgs(1, 2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runPluginUpgrade(ctx, c, cl, o, args)
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.grant, "grant-all-permissions", false, "Allow what it wants without a question")
	f.BoolVar(&o.anyRemote, "skip-remote-check", false, "Let it come from another repository")
	opts.AddUntrusted(f)
	return cmd
}

func runPluginUpgrade(ctx context.Context, c *cli, cl *client.Client, o pluginInstallOptions, args []string) error {
	raw, err := cl.PluginInspectRaw(ctx, args[0])
	if err != nil {
		return fmt.Errorf("error reading plugin data: %w", err)
	}
	var p plugin.Plugin
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("read the engine's answer: %w", err)
	}
	if p.Enabled {
		return errors.New("the plugin must be disabled before upgrading")
	}
	remote := p.PluginReference
	if len(args) > 1 {
		remote = args[1]
	}
	to, err := normalize(remote)
	if err != nil {
		return fmt.Errorf("error parsing remote upgrade image reference: %w", err)
	}
	old, err := normalize(p.PluginReference)
	if err != nil {
		return fmt.Errorf("error parsing current image reference: %w", err)
	}
	fmt.Fprintf(c.out, "Upgrading plugin %s from %s to %s\n", safe(p.Name), safe(familiar(old)), safe(familiar(to)))
	if !o.anyRemote && to != old && !c.ask("Plugin images do not match, are you sure?") {
		return errors.New("plugin upgrade has been cancelled")
	}
	req := client.PluginPullOptions{Remote: to, Name: p.Name, Auth: c.credentials(remote)}
	if req.Privileges, err = c.grant(ctx, cl, req, o.grant, remote); err != nil {
		return err
	}
	show := newProgress(c.out, false)
	err = cl.PluginUpgrade(ctx, req, show.Show)
	if err = errors.Join(show.Close(), err); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "Upgraded plugin %s to %s\n", safe(p.Name), safe(remote))
	return err
}
