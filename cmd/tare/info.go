package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/system"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/cliplugin"
)

func newInfoCommand(c *cli) *cobra.Command {
	var template string
	cmd := &cobra.Command{
		Use:         "info [OPTIONS]",
		Short:       "Show the engine, its host and its settings",
		Args:        noArgs,
		Annotations: aliases("system info", "info"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			return runInfo(ctx, c, cl, template)
		}),
	}
	addObjectFormat(cmd.Flags(), &template)
	return cmd
}

// information is what templates of the info command see.
type information struct {
	*system.Info `json:",omitempty"`
	ClientInfo   clientInfo
	ServerErrors []string `json:",omitempty"`
}

type clientInfo struct {
	Debug bool
	clientVersion
	Plugins  []*cliplugin.Plugin
	Warnings []string
}

// runInfo shows both sides. Without an engine it shows ours and fails.
func runInfo(ctx context.Context, c *cli, cl *client.Client, tmpl string) error {
	info := information{ClientInfo: clientInfo{Debug: c.global.debug, clientVersion: ourVersion(c.contextName(c.config))}}
	if tmpl == "" || strings.Contains(tmpl, "json") || strings.Contains(tmpl, "Client") {
		info.ClientInfo.Plugins = c.cliPlugins(c.config).List(ctx) // which has to run them all
	}
	server, err := cl.Info(ctx)
	if err == nil {
		info.Info = &server
	} else {
		info.ServerErrors = []string{err.Error()}
	}
	if tmpl == "" {
		return errors.Join(printInfo(c.out, c.err, info), err)
	}
	return errors.Join(printBy(c.out, tmpl, info), err)
}

// infoWriter writes "name: value" lines, with the control characters of values
// made visible.
type infoWriter struct{ w io.Writer }

func (p infoWriter) line(name string, value any) {
	fmt.Fprintf(p.w, " %s: %s\n", safe(name), safe(fmt.Sprint(value)))
}

// maybe writes the line only if there is a value.
func (p infoWriter) maybe(name, value string) {
	if value != "" {
		p.line(name, value)
	}
}

// list writes a heading with values below it, if there are any.
func (p infoWriter) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	fmt.Fprintf(p.w, " %s:\n", name)
	for _, v := range values {
		fmt.Fprintf(p.w, "  %s\n", safe(v))
	}
}

func printInfo(out, errOut io.Writer, all information) error {
	p := infoWriter{out}
	fmt.Fprintln(out, "Client:")
	p.line("Version", "   "+all.ClientInfo.Version)
	p.line("Context", "   "+all.ClientInfo.Context)
	p.line("Debug Mode", all.ClientInfo.Debug)
	printCLIPlugins(p, errOut, all.ClientInfo.Plugins)
	fmt.Fprintln(out, "\nServer:")
	if all.Info == nil {
		return nil
	}
	i := all.Info
	printObjectCounts(p, i)
	printParts(p, i)
	printHost(p, i)
	printSettings(p, i)
	fmt.Fprintln(out)
	for _, w := range i.Warnings {
		fmt.Fprintln(errOut, safe(w))
	}
	return nil
}

// printCLIPlugins lists the plugins of the command line.
func printCLIPlugins(p infoWriter, errOut io.Writer, list []*cliplugin.Plugin) {
	if len(list) > 0 {
		fmt.Fprintln(p.w, " Plugins:")
	}
	for _, i := range list {
		if i.Err != nil {
			fmt.Fprintf(errOut, "WARNING: Plugin %q is not valid: %s\n", i.Path, safe(i.Problem))
			continue
		}
		p.line(" "+i.Name, fmt.Sprintf("%s (%s)", i.ShortDescription, i.Vendor))
		p.maybe("   Version", i.Version)
		p.maybe("   Path", "   "+i.Path)
	}
}

func printObjectCounts(p infoWriter, i *system.Info) {
	p.line("Containers", i.Containers)
	p.line(" Running", i.ContainersRunning)
	p.line(" Paused", i.ContainersPaused)
	p.line(" Stopped", i.ContainersStopped)
	p.line("Images", i.Images)
	p.maybe("Server Version", i.ServerVersion)
}

// printParts shows what the engine does its work with.
func printParts(p infoWriter, i *system.Info) {
	p.line("Storage Driver", i.Driver)
	for _, s := range i.DriverStatus {
		p.line(" "+s[0], s[1])
	}
	p.line("Logging Driver", i.LoggingDriver)
	p.line("Cgroup Driver", i.CgroupDriver)
	p.maybe("Cgroup Version", i.CgroupVersion)
	fmt.Fprintln(p.w, " Plugins:")
	p.line(" Volume", strings.Join(i.Plugins.Volume, " "))
	p.line(" Network", strings.Join(i.Plugins.Network, " "))
	p.maybe(" Authorization", strings.Join(i.Plugins.Authorization, " "))
	p.line(" Log", strings.Join(i.Plugins.Log, " "))
	if len(i.CDISpecDirs) > 0 {
		p.list("CDI spec directories", i.CDISpecDirs)
	}
	p.line("Swarm", i.Swarm.LocalNodeState)
	if len(i.Runtimes) > 0 {
		p.line("Runtimes", strings.Join(slices.Sorted(maps.Keys(i.Runtimes)), " "))
		p.line("Default Runtime", i.DefaultRuntime)
	}
	if i.OSType != "linux" {
		return
	}
	p.line("Init Binary", i.InitBinary)
	p.line("containerd version", i.ContainerdCommit.ID)
	p.line("runc version", i.RuncCommit.ID)
	p.line("init version", i.InitCommit.ID)
	if len(i.SecurityOptions) > 0 {
		fmt.Fprintln(p.w, " Security Options:")
	}
	for _, option := range i.SecurityOptions {
		printSecurityOption(p, option)
	}
}

// printSecurityOption shows "name=seccomp,profile=default" as a heading with
// what belongs to it.
func printSecurityOption(p infoWriter, option string) {
	for _, field := range strings.Split(option, ",") {
		switch key, value, ok := strings.Cut(field, "="); {
		case !ok:
			fmt.Fprintf(p.w, "  %s\n", safe(key))
		case key == "name":
			fmt.Fprintf(p.w, "  %s\n", safe(value))
		case key == "profile":
			p.line("  Profile", value)
		default:
			p.line("  "+key, value)
		}
	}
}

func printHost(p infoWriter, i *system.Info) {
	p.line("Kernel Version", i.KernelVersion)
	p.line("Operating System", i.OperatingSystem)
	p.line("OSType", i.OSType)
	p.line("Architecture", i.Architecture)
	p.line("CPUs", i.NCPU)
	p.line("Total Memory", units.BytesSize(float64(i.MemTotal)))
	p.line("Name", i.Name)
	p.line("ID", i.ID)
	p.line("Docker Root Dir", i.DockerRootDir)
	p.line("Debug Mode", i.Debug)
	if i.Debug {
		p.line(" File Descriptors", i.NFd)
		p.line(" Goroutines", i.NGoroutines)
		p.line(" System Time", i.SystemTime)
		p.line(" EventsListeners", i.NEventsListener)
	}
}

func printSettings(p infoWriter, i *system.Info) {
	p.maybe("HTTP Proxy", i.HTTPProxy)
	p.maybe("HTTPS Proxy", i.HTTPSProxy)
	p.maybe("No Proxy", i.NoProxy)
	p.list("Labels", i.Labels)
	p.line("Experimental", i.ExperimentalBuild)
	if r := i.RegistryConfig; r != nil {
		var insecure []string
		for _, name := range slices.Sorted(maps.Keys(r.IndexConfigs)) {
			if !r.IndexConfigs[name].Secure {
				insecure = append(insecure, name)
			}
		}
		for _, net := range r.InsecureRegistryCIDRs {
			insecure = append(insecure, net.String())
		}
		p.list("Insecure Registries", insecure)
		p.list("Registry Mirrors", r.Mirrors)
	}
	p.line("Live Restore Enabled", i.LiveRestoreEnabled)
	p.maybe("Product License", i.ProductLicense)
	if len(i.DefaultAddressPools) > 0 {
		fmt.Fprintln(p.w, " Default Address Pools:")
		for _, pool := range i.DefaultAddressPools {
			fmt.Fprintf(p.w, "   Base: %s, Size: %d\n", pool.Base, pool.Size)
		}
	}
	if f := i.FirewallBackend; f != nil {
		p.line("Firewall Backend", f.Driver)
		for _, pair := range f.Info {
			p.line(" "+pair[0], pair[1])
		}
	}
}
