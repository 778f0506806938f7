package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

func newVersionCommand(c *cli) *cobra.Command {
	var template string
	cmd := &cobra.Command{
		Use:   "version [OPTIONS]",
		Short: "Show the versions of client and engine",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return runVersion(cmd.Context(), cl, c.out, template, c.contextName(c.config))
		},
	}
	addObjectFormat(cmd.Flags(), &template)
	return cmd
}

// versions is what templates of the version command see.
type versions struct {
	Client   clientVersion
	Server   *system.VersionResponse
	ServerOK bool `json:"-"` // for templates
}

type clientVersion struct {
	Platform          *system.PlatformInfo `json:",omitempty"`
	Version           string
	APIVersion        string `json:"ApiVersion"`
	DefaultAPIVersion string
	GitCommit         string
	GoVersion         string
	Os                string
	Arch              string
	BuildTime         string `json:",omitempty"`
	Context           string
}

// runVersion shows both sides. Without an engine it shows ours and fails.
func runVersion(ctx context.Context, cl *client.Client, out io.Writer, tmpl, contextName string) error {
	server, err := cl.ServerVersion(ctx)
	v := versions{Client: ourVersion(contextName)}
	v.Client.APIVersion = cl.Version().String()
	if err == nil {
		v.Server, v.ServerOK = &server, true
	}
	if printErr := printVersion(out, tmpl, v); printErr != nil {
		return printErr
	}
	return err
}

// ourVersion describes this build of the command line.
func ourVersion(contextName string) clientVersion {
	return clientVersion{
		Version: version, DefaultAPIVersion: api.MaxVersion.String(), GitCommit: commit, GoVersion: runtime.Version(),
		Os: runtime.GOOS, Arch: runtime.GOARCH, BuildTime: readableTime(built), Context: contextName,
	}
}

func printVersion(out io.Writer, tmpl string, v versions) error {
	if tmpl == "" {
		return format.Collected(out, func(out io.Writer) error { return printVersionText(out, v) })
	}
	return printBy(out, tmpl, &v)
}

func printVersionText(out io.Writer, v versions) error {
	w := tabwriter.NewWriter(out, 20, 1, 1, ' ', 0)
	line := func(indent, name, value string) { fmt.Fprintf(w, "%s%s:\t%s\n", indent, safe(name), safe(value)) }
	c := v.Client
	fmt.Fprintln(w, "Client:")
	line(" ", "Version", c.Version)
	api := c.APIVersion
	if api != c.DefaultAPIVersion {
		api += " (downgraded from " + c.DefaultAPIVersion + ")"
	}
	line(" ", "API version", api)
	line(" ", "Go version", c.GoVersion)
	line(" ", "Git commit", c.GitCommit)
	line(" ", "Built", c.BuildTime)
	line(" ", "OS/Arch", c.Os+"/"+c.Arch)
	line(" ", "Context", c.Context)
	if v.Server == nil {
		return w.Flush()
	}
	title := "Server:"
	if name := v.Server.Platform.Name; name != "" {
		title += " " + safe(name)
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, part := range components(v.Server) {
		fmt.Fprintf(w, " %s:\n", safe(part.Name))
		line("  ", "Version", part.Version)
		d := part.Details
		if part.Name != "Engine" {
			for _, name := range slices.Sorted(maps.Keys(d)) {
				line("  ", name, d[name])
			}
			continue
		}
		line("  ", "API version", d["ApiVersion"]+" (minimum version "+d["MinAPIVersion"]+")")
		line("  ", "Go version", d["GoVersion"])
		line("  ", "Git commit", d["GitCommit"])
		line("  ", "Built", readableTime(d["BuildTime"]))
		line("  ", "OS/Arch", d["Os"]+"/"+d["Arch"])
		line("  ", "Experimental", d["Experimental"])
	}
	return w.Flush()
}

// components lists the parts of an engine; one that names none is its own
// only part.
func components(v *system.VersionResponse) []system.ComponentVersion {
	if len(v.Components) > 0 {
		return v.Components
	}
	return []system.ComponentVersion{{Name: "Engine", Version: v.Version, Details: map[string]string{
		"ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "Os": v.Os, "Arch": v.Arch, "BuildTime": v.BuildTime,
		"GoVersion": v.GoVersion, "GitCommit": v.GitCommit, "Experimental": fmt.Sprint(v.Experimental),
	}}}
}

// readableTime shows the time of a build as people write it.
func readableTime(s string) string {
	t, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(s))
	if err != nil {
		return s
	}
	return t.Format(time.ANSIC)
}
