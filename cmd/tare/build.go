package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/cmd/tare/buildopts"
)

// buildProgram is a program of its own: what a client of builds is made of takes longer
// to start than all other commands.
const buildProgram = "tare-build"

func newBuildCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:                "build [OPTIONS] PATH | URL | -",
		Short:              "Build an image from a Dockerfile",
		DisableFlagParsing: true, // they are the program's
		Annotations:        aliases("image build", "build", "builder build"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range args {
				if a == "-h" || a == "--help" {
					return cmd.Help()
				}
			}
			return c.execBuild("", args)
		},
	}
	new(buildopts.Options).Add(cmd.Flags())
	return cmd
}

// execBuild becomes the program that builds, which is told how the engine is reached,
// and what is to be shown of its builder instead, if something is.
func (c *cli) execBuild(show string, args []string) error {
	config, err := c.settings()
	if err != nil {
		return err
	}
	e, err := c.endpoint(config)
	if err != nil {
		return notInitialized(err.Error())
	}
	cmd, err := c.beside(buildProgram, args)
	if err != nil {
		return err
	}
	way := struct { // engine of cmd/tare-build
		Socket  string
		Dial    []string
		Proxies []string
		Name    string
		Show    string
	}{Proxies: proxyEnv(config.Proxies, e.host), Name: c.contextName(config), Show: show}
	if socket, ok := strings.CutPrefix(e.host, "unix://"); ok {
		way.Socket = socket
	} else {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		way.Dial = append(append([]string{self}, c.global.again()...), "system", "dial-stdio")
	}
	doc, err := json.Marshal(way)
	if err != nil {
		return err
	}
	cmd.Env = append(os.Environ(), "TARE_BUILD_ENGINE="+string(doc), "TARE_BUILD_CONFIG="+config.path())
	return become(cmd)
}

// again are the global flags as they were given, for a program that is to find the
// same engine.
func (g *globalFlags) again() (args []string) {
	values := map[string]string{"config": g.config, "context": g.context, "tlscacert": g.caCert, "tlscert": g.cert, "tlskey": g.key}
	for _, flag := range slices.Sorted(maps.Keys(values)) {
		if g.changed != nil && g.changed(flag) {
			args = append(args, "--"+flag, values[flag])
		}
	}
	for _, h := range g.hosts {
		args = append(args, "--host", h)
	}
	for flag, on := range map[string]bool{"tls": g.tls, "tlsverify": g.tlsVerify} {
		if g.changed != nil && g.changed(flag) {
			args = append(args, fmt.Sprintf("--%s=%t", flag, on))
		}
	}
	return args
}
