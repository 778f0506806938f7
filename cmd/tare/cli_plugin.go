package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tare-engine/tare/cmd/tare/cliplugin"
)

// builderPlugin is the plugin that docker forwards builds to.
const builderPlugin = "buildx"

// cliPlugins is where docker's command line looks for its plugins.
func (c *cli) cliPlugins(config *configFile) cliplugin.Set {
	dirs := append(slices.Clone(config.CLIPluginsExtraDirs), filepath.Join(config.dir, "cli-plugins"))
	return cliplugin.Set{Dirs: append(dirs, cliplugin.SystemDirs()...), Builtin: c.builtin}
}

// builtin reports whether a word is a command of ours.
func (c *cli) builtin(word string) bool {
	return slices.ContainsFunc(c.tree, func(e command) bool { return e.is(word) })
}

// runPlugin becomes the plugin of a name, with a whole command line. That there is no
// such plugin is no error, and none that can be used a reason.
func (c *cli) runPlugin(ctx context.Context, name string, args, variables []string) (found bool, err error) {
	config, err := c.settings()
	if err != nil {
		return false, err
	}
	p := c.cliPlugins(config).Get(ctx, name)
	if p == nil {
		return false, nil
	}
	if p.Err != nil {
		return true, fmt.Errorf("plugin %s: %w", p.Path, p.Err)
	}
	cmd := p.Command(args, append(c.engineVariables(config), variables...))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.out, c.err
	return true, become(cmd)
}

// engineVariables tell a plugin which engine is meant, where flags and contexts do
// not: it knows neither our socket nor our variable.
func (c *cli) engineVariables(config *configFile) []string {
	if len(c.global.hosts) > 0 || c.contextName(config) != defaultContext {
		return nil
	}
	return []string{"DOCKER_HOST=" + c.hostName()}
}

// forwarded finds a command line that is a plugin's by another name: "bake", which
// docker has for buildx, and builds, with a builder of the user's choice in
// config.json. args is the whole command line, words what follows the global flags.
func (c *cli) forwarded(args, words []string) (plugin string, rewritten []string, err error) {
	if len(words) == 0 {
		return "", nil, nil
	}
	own, theirs := 1, []string{}
	switch {
	case words[0] == "bake":
		theirs = []string{"bake"}
	case words[0] == "builder":
	case words[0] == "build":
		theirs = []string{"build"}
	case words[0] == "image" && len(words) > 1 && words[1] == "build":
		own, theirs = 2, []string{"build"}
	default:
		return "", nil, nil
	}
	plugin, err = c.builderAlias(args)
	if err != nil || plugin == "" && words[0] != "bake" {
		return "", nil, err
	}
	if plugin == "" {
		plugin = builderPlugin
	}
	global := args[:len(args)-len(words)]
	return plugin, slices.Concat(global, []string{plugin}, theirs, words[own:]), nil
}

// builderAlias is the builder that config.json has all builds forwarded to, if any.
func (c *cli) builderAlias(args []string) (string, error) {
	// The flags are not read yet, and are read once only: this is about one of them.
	var g globalFlags
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SetInterspersed(false)
	g.add(flags)
	_ = flags.Parse(args) // what is wrong with them is said later
	config, err := readConfig(g.config)
	if err != nil {
		return "", err
	}
	for name := range config.Aliases {
		if name != "builder" {
			return "", fmt.Errorf("not allowed to alias %q in %s: only \"builder\" may have another name", name, config.path())
		}
	}
	alias := config.Aliases["builder"]
	if first, _, _ := strings.Cut(alias, " "); alias != "" && c.builtin(first) {
		return "", fmt.Errorf("not allowed to alias with builtin %q as target, in %s", alias, config.path())
	}
	return alias, nil
}

// runForwarded runs such a command line; words are what it is rewritten from.
func (c *cli) runForwarded(root *cobra.Command, plugin string, args, words []string) error {
	bake := words[0] == "bake"
	config, err := c.settings()
	if err != nil {
		return err
	}
	var variables []string
	if bake && os.Getenv("BUILDX_BUILDER") == "" && !slices.ContainsFunc(args, isBuilderFlag) {
		// The engine's own builder, whatever "buildx use" has chosen: the images are to be here.
		variables = []string{"BUILDX_BUILDER=" + c.contextName(config)}
	}
	found, err := c.runPlugin(root.Context(), plugin, args, variables)
	if !found && err == nil && slices.Contains(words, "--help") {
		assemble(c, root, c.tree, words[:1])
		if cmd, _, err := root.Find(words[:1]); err == nil {
			return cmd.Help()
		}
	}
	if !found && err == nil {
		err = errors.New("the plugin " + plugin + " is needed and is not there: install it in " + filepath.Join(config.dir, "cli-plugins"))
	}
	return err
}

func isBuilderFlag(arg string) bool {
	return arg == "--builder" || strings.HasPrefix(arg, "--builder=")
}

// addPluginStubs adds what help and completion show of plugins.
func (c *cli) addPluginStubs(root *cobra.Command) {
	config, err := c.settings()
	if err != nil {
		return // whatever is run says so
	}
	for _, p := range c.cliPlugins(config).List(context.Background()) {
		group := management
		if p.Err != nil {
			group = invalidPlugins
			p.ShortDescription = p.Problem
		}
		root.AddCommand(&cobra.Command{
			Use: p.Name, Short: p.ShortDescription, Hidden: p.Hidden,
			Annotations:        map[string]string{"group": group, "plugin": p.Path},
			DisableFlagParsing: true,
			Run:                func(*cobra.Command, []string) {},
			ValidArgsFunction: func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
				line := append(append([]string{cobra.ShellCompRequestCmd, p.Name}, args...), word)
				_, _ = c.runPlugin(context.Background(), p.Name, line, nil) // it answers in our place
				return nil, cobra.ShellCompDirectiveError
			},
		})
	}
}
