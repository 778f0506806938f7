package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/plugin"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
	"github.com/tare-engine/tare/cmd/tare/template"
)

type inspectOptions struct {
	format string
	kind   string // container, image, network, volume, plugin; "" tries them in turn
	size   bool
	detail bool // of networks: what their swarm knows

	platform string // of images that have several
}

func newInspectCommand(c *cli) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NAME|ID [NAME|ID...]",
		Short: "Show all that is known of containers, images and other objects",
		Args:  minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.kind != "" && inspectors(o)[o.kind] == nil {
				return fmt.Errorf(`unknown type: %q: must be one of "container", "image", "network", "plugin", "volume"`, o.kind)
			}
			return c.inspect(cmd, o, args)
		},
	}
	addObjectFormat(cmd.Flags(), &o.format)
	cmd.Flags().BoolVarP(&o.size, "size", "s", false, "Show the size of the files if it is a container")
	cmd.Flags().StringVar(&o.kind, "type", "", "Look for this type only (container, image, network, plugin, volume)")
	return cmd
}

// newKindInspectCommand makes the inspect command of one kind of object.
func newKindInspectCommand(kind string) func(*cli) *cobra.Command {
	return func(c *cli) *cobra.Command {
		o := inspectOptions{kind: kind}
		word := strings.ToUpper(kind)
		cmd := &cobra.Command{
			Use:   "inspect [OPTIONS] " + word + " [" + word + "...]",
			Short: "Show all that is known of " + kind + "s",
			Args:  minArgs(1),
			RunE:  func(cmd *cobra.Command, args []string) error { return c.inspect(cmd, o, args) },
		}
		addObjectFormat(cmd.Flags(), &o.format)
		switch kind {
		case "container":
			cmd.Flags().BoolVarP(&o.size, "size", "s", false, "Show the size of the files")
		case "image":
			cmd.Flags().StringVar(&o.platform, "platform", "", "Show this platform of an image that has several, such as linux/arm64")
		case "network":
			cmd.Flags().BoolVarP(&o.detail, "verbose", "v", false, "Show what a swarm knows of it")
		}
		return cmd
	}
}

func (c *cli) inspect(cmd *cobra.Command, o inspectOptions, names []string) error {
	cl, err := c.connect()
	if err != nil {
		return err
	}
	return runInspect(cmd.Context(), cl, c.out, o, names)
}

// inspector looks one kind of object up. typed is what templates see first:
// its numbers are numbers.
type inspector struct {
	look  func(ctx context.Context, cl *client.Client, name string) (json.RawMessage, error)
	typed func() any
}

func inspectors(o inspectOptions) map[string]*inspector {
	return map[string]*inspector{
		"container": {
			look: func(ctx context.Context, cl *client.Client, name string) (json.RawMessage, error) {
				return cl.ContainerInspectRaw(ctx, name, o.size)
			},
			typed: func() any { return &container.InspectResponse{} },
		},
		"image": {
			look: func(ctx context.Context, cl *client.Client, name string) (json.RawMessage, error) {
				platform, err := parsePlatform(o.platform)
				if err != nil {
					return nil, err
				}
				return cl.ImageInspectRaw(ctx, name, platform)
			},
			typed: func() any { return &image.InspectResponse{} },
		},
		"network": {
			look: func(ctx context.Context, cl *client.Client, name string) (json.RawMessage, error) {
				return cl.NetworkInspectRaw(ctx, name, o.detail)
			},
			typed: func() any { return &network.Inspect{} },
		},
		"volume": {
			look: func(ctx context.Context, cl *client.Client, name string) (json.RawMessage, error) {
				return cl.VolumeInspectRaw(ctx, name)
			},
			typed: func() any { return &volume.Volume{} },
		},
		"plugin": {
			look: func(ctx context.Context, cl *client.Client, name string) (json.RawMessage, error) {
				return cl.PluginInspectRaw(ctx, name)
			},
			typed: func() any { return &plugin.Plugin{} },
		},
	}
}

func runInspect(ctx context.Context, cl *client.Client, out io.Writer, o inspectOptions, names []string) error {
	var t *template.Template
	if o.format != "" && o.format != "json" {
		var err error
		if t, err = parseFormat(o.format); err != nil {
			return err
		}
		t = t.Strict()
		out = format.Screen(out, o.format)
	}
	var found []json.RawMessage
	var errs []error
	for _, name := range names {
		raw, typed, err := lookUp(ctx, cl, o, name)
		if err == nil && t != nil {
			err = printObject(out, t, raw, typed)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, raw)
	}
	if t == nil {
		errs = append(errs, printObjects(out, found, o.format == "json"))
	}
	return errors.Join(errs...)
}

// lookUp finds an object by name, trying the kinds in docker's order.
func lookUp(ctx context.Context, cl *client.Client, o inspectOptions, name string) (json.RawMessage, any, error) {
	all := inspectors(o)
	kinds := []string{"container", "image", "network", "volume", "plugin"}
	if o.kind != "" {
		kinds = []string{o.kind}
	}
	for _, kind := range kinds {
		raw, err := all[kind].look(ctx, cl, name)
		switch {
		case err != nil && o.kind == "" && notThisKind(err):
			continue
		case err != nil:
			return nil, nil, err
		}
		// An engine whose shapes differ is shown by its own JSON alone.
		typed := all[kind].typed()
		if json.Unmarshal(raw, typed) != nil {
			typed = nil
		}
		return raw, typed, nil
	}
	return nil, nil, fmt.Errorf("Error: No such object: %s", name)
}

// notThisKind reports whether an error leaves hope for another kind of object:
// a name may be one that this kind does not even allow.
func notThisKind(err error) bool {
	status := client.StatusOf(err)
	return status == 404 || status == 400 || status == 501
}

// printObject runs a template over the typed object, and over the engine's
// own JSON if the type lacks what the template asks for.
func printObject(out io.Writer, t *template.Template, raw json.RawMessage, typed any) error {
	var b bytes.Buffer
	if typed != nil {
		if t.Execute(&b, typed) == nil {
			_, err := fmt.Fprintln(out, b.String())
			return err
		}
		b.Reset()
	}
	var fields any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // ids and sizes as they are written
	if err := d.Decode(&fields); err != nil {
		return err
	}
	if err := t.Execute(&b, fields); err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}

// printObjects prints a JSON list, indented or on one line.
func printObjects(out io.Writer, list []json.RawMessage, compact bool) error {
	all := bytes.Join(rawBytes(list), []byte(","))
	all = append(append([]byte("["), all...), ']')
	var b bytes.Buffer
	var err error
	if compact {
		err = json.Compact(&b, all)
	} else {
		err = json.Indent(&b, all, "", "    ")
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(format.EscapeJSON(b.Bytes())))
	return err
}

func rawBytes(list []json.RawMessage) [][]byte {
	out := make([][]byte, len(list))
	for i, raw := range list {
		out[i] = bytes.TrimSpace(raw)
	}
	return out
}
