package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/cmd/tare/format"
)

func newCompletionCommand(shell string) func(c *cli) *cobra.Command {
	return func(c *cli) *cobra.Command {
		return &cobra.Command{
			Use:   shell,
			Short: "Print the completion script for " + shell,
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				root := newRootCommand(c, nil) // the whole tree
				switch shell {
				case "bash":
					return root.GenBashCompletionV2(c.out, true)
				case "zsh":
					return root.GenZshCompletion(c.out)
				}
				return root.GenFishCompletion(c.out, true)
			},
		}
	}
}

// completionTime bounds how long a Tab key may wait for an engine.
const completionTime = 2 * time.Second

// What the arguments of a command name, for completion.
const (
	namesRunning    = "running containers"
	namesContainers = "containers"
	namesImages     = "images"
	namesNetworks   = "networks"
	namesVolumes    = "volumes"
	namesPlugins    = "plugins"
	namesLogDrivers = "log drivers"
	namesContexts   = "contexts"
	namesServers    = "registries with credentials"
)

// completer returns what completes the arguments of a command. one says that
// only the first of them is such a name.
func (c *cli) completer(what string, one bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if one && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTime)
		defer cancel()
		names, err := c.names(ctx, what)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeExtensions completes the values of options that Docker does not have:
// names of containers, and what is to be said as it stands (auto|always|false).
func (c *cli) completeExtensions(cmd *cobra.Command) {
	for _, x := range api.ExtensionTable {
		var words []string
		for word := range strings.SplitSeq(x.Value, "|") {
			if word == strings.ToLower(word) {
				words = append(words, word)
			}
		}
		complete := cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
		if x.List {
			complete = c.completer(namesContainers, false)
		}
		if err := cmd.RegisterFlagCompletionFunc(x.Name, complete); err != nil {
			panic(err) // a flag of that name is not there, or is there twice
		}
	}
}

func (c *cli) names(ctx context.Context, what string) (names []string, err error) {
	if what == namesServers {
		store, err := c.credentialStore()
		if err != nil {
			return nil, err
		}
		return store.Servers(), nil
	}
	if what == namesContexts {
		return c.contextNames(ctx)
	}
	cl, err := c.connect()
	if err != nil {
		return nil, err
	}
	switch what {
	case namesImages:
		list, err := cl.ImageList(ctx, api.ImageListOptions{})
		for _, i := range list {
			names = append(names, i.RepoTags...)
		}
		return names, err
	case namesVolumes:
		list, err := cl.VolumeList(ctx, nil)
		for _, v := range list.Volumes {
			names = append(names, v.Name)
		}
		return names, err
	case namesLogDrivers:
		info, err := cl.Info(ctx)
		return append(info.Plugins.Log, "none"), err
	case namesPlugins:
		list, err := cl.PluginList(ctx, nil)
		for _, p := range list {
			names = append(names, p.Name)
		}
		return names, err
	case namesNetworks:
		list, err := cl.NetworkList(ctx, nil)
		for _, n := range list {
			names = append(names, n.Name)
		}
		return names, err
	}
	list, err := cl.ContainerList(ctx, api.ListOptions{All: what == namesContainers})
	for _, ct := range list {
		if os.Getenv("DOCKER_COMPLETION_SHOW_CONTAINER_IDS") == "yes" {
			names = append(names, format.ShortID(ct.ID))
		}
		for _, n := range ct.Names {
			names = append(names, strings.TrimPrefix(n, "/"))
		}
	}
	return names, err
}
