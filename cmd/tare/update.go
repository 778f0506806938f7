package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

type updateOptions struct {
	resources           container.Resources
	cpus                opts.NanoCPUs
	memory, reservation opts.Bytes
	kernelMemory        opts.Bytes // read, and not sent: there is no such limit
	swap                opts.Swap
	pids                int64
	restart             string
	publish, unpublish  opts.List
	extensions          opts.Extensions
}

// changes is what the flags ask for.
type changes struct {
	config  container.UpdateConfig
	options map[string]string // annotations
	ports   api.PublishChange
}

func newUpdateCommand(c *cli) *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use:         "update [OPTIONS] CONTAINER [CONTAINER...]",
		Short:       "Change limits and published ports of containers",
		Args:        minArgs(1),
		Annotations: aliases("container update", "update"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if cmd.Flags().NFlag() == 0 {
				return errors.New("you must provide one or more flags when using this command")
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			to := changes{options: o.extensions.Annotations()}
			if to.config, err = o.config(cmd); err != nil {
				return err
			}
			if to.ports, err = o.ports(); err != nil {
				return err
			}
			return runUpdate(cmd.Context(), cl, c.out, c.err, to, names)
		},
	}
	f, r := cmd.Flags(), &o.resources
	f.Uint16Var(&r.BlkioWeight, "blkio-weight", 0, "Share of block I/O, 10 to 1000, or 0 for the default")
	f.Int64Var(&r.CPUPeriod, "cpu-period", 0, "Length of a CPU quota's period in microseconds")
	f.Int64Var(&r.CPUQuota, "cpu-quota", 0, "CPU time in each period in microseconds")
	f.Int64Var(&r.CPURealtimePeriod, "cpu-rt-period", 0, "Length of a real-time period in microseconds")
	f.Int64Var(&r.CPURealtimeRuntime, "cpu-rt-runtime", 0, "Real-time CPU time in each period in microseconds")
	f.Int64VarP(&r.CPUShares, "cpu-shares", "c", 0, "Share of CPU time beside other containers")
	f.Var(&o.cpus, "cpus", "Number of CPUs, such as 1.5")
	f.StringVar(&r.CpusetCpus, "cpuset-cpus", "", "CPUs the container may run on (0-3, 0,1)")
	f.StringVar(&r.CpusetMems, "cpuset-mems", "", "Memory nodes the container may use (0-3, 0,1)")
	f.Var(&o.kernelMemory, "kernel-memory", "Kernel memory limit")
	f.MarkDeprecated("kernel-memory", "and no longer supported by the kernel")
	f.VarP(&o.memory, "memory", "m", "Memory limit, such as 512m")
	f.Var(&o.reservation, "memory-reservation", "Memory the container gives back to when the host runs short")
	f.Var(&o.swap, "memory-swap", "Limit of memory and swap together; -1 for no limit of swap")
	f.Int64Var(&o.pids, "pids-limit", 0, "Number of processes allowed (-1 for no limit)")
	f.StringVar(&o.restart, "restart", "", "What to do when the container exits (no, always, unless-stopped, on-failure[:N])")
	f.Var(&o.publish, "publish-add", "Publish a port, as [[ADDRESS:]HOST:]CONTAINER[/udp]")
	f.Var(&o.unpublish, "publish-rm", "Do not publish a port any more, as [[ADDRESS:]HOST:]CONTAINER[/udp]")
	o.extensions.AddLive(f)
	return cmd
}

// ports is how the published ports change.
func (o *updateOptions) ports() (c api.PublishChange, err error) {
	if _, c.Add, err = opts.ParsePublish(o.publish.Values); err == nil {
		_, c.Remove, err = opts.ParsePublish(o.unpublish.Values)
	}
	return c, err
}

func (o *updateOptions) config(cmd *cobra.Command) (container.UpdateConfig, error) {
	restart, err := opts.ParseRestart(o.restart)
	if err != nil {
		return container.UpdateConfig{}, err
	}
	r := o.resources
	r.NanoCPUs, r.Memory, r.MemoryReservation, r.MemorySwap = int64(o.cpus), int64(o.memory), int64(o.reservation), int64(o.swap)
	if cmd.Flags().Changed("pids-limit") {
		r.PidsLimit = &o.pids
	}
	return container.UpdateConfig{Resources: r, RestartPolicy: restart}, nil
}

func runUpdate(ctx context.Context, cl *client.Client, out, errOut io.Writer, to changes, names []string) error {
	var errs []error
	for _, name := range names {
		warnings, err := updateOne(ctx, cl, name, to)
		for _, w := range warnings {
			fmt.Fprintln(errOut, safe(w))
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(out, safe(name))
	}
	return errors.Join(errs...)
}

// updateOne changes one container: its limits, its options that Docker does not have,
// then its ports.
func updateOne(ctx context.Context, cl *client.Client, name string, to changes) (warnings []string, err error) {
	publishes := len(to.ports.Add)+len(to.ports.Remove) > 0
	if !publishes && to.options == nil || !reflect.DeepEqual(to.config, container.UpdateConfig{}) {
		resp, err := cl.ContainerUpdate(ctx, name, to.config)
		if err != nil {
			return nil, err
		}
		warnings = resp.Warnings
	}
	if to.options != nil {
		if err := cl.ContainerOptions(ctx, api.OptionsChange{Container: name, Options: to.options}); err != nil {
			return warnings, err
		}
	}
	if to.ports.Container = name; publishes {
		err = cl.ContainerPublish(ctx, to.ports)
	}
	return warnings, err
}
