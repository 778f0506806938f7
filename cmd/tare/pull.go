package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

// safe is a text of others that goes to the terminal.
func safe(s string) string { return format.Escape(s) }

// splitTag parts a reference into name and tag or digest. The colon of a
// registry's port is no tag.
func splitTag(ref string) (name, tag string) {
	if name, digest, ok := strings.Cut(ref, "@"); ok {
		return name, digest
	}
	slash := strings.LastIndexByte(ref, '/')
	if colon := strings.LastIndexByte(ref, ':'); colon > slash {
		return ref[:colon], ref[colon+1:]
	}
	return ref, ""
}

// withTag adds the tag that is meant where none is given.
func withTag(ref string) string {
	if _, tag := splitTag(ref); tag == "" {
		return ref + ":latest"
	}
	return ref
}

// pullImage asks the engine for an image and shows how it gets on.
func (o *createOptions) pullImage(ctx context.Context, c *cli, cl *client.Client, ref string) error {
	name, tag := splitTag(ref)
	if tag == "" {
		tag = "latest"
	}
	var out io.Writer = c.err
	if o.quiet {
		out = io.Discard
	}
	return cl.ImagePull(ctx, name, tag, o.platform, func(m jsonstream.Message) error {
		return printMessage(out, m)
	})
}

// printMessage prints a line of an engine's progress. Counts of bytes are left
// out: they are for bars, not for lines.
func printMessage(w io.Writer, m jsonstream.Message) error {
	var err error
	switch {
	case m.Progress != nil && m.Progress.Total > 0:
	case m.Stream != "":
		_, err = io.WriteString(w, format.EscapeLines(m.Stream))
	case m.ID != "":
		_, err = fmt.Fprintf(w, "%s: %s\n", safe(m.ID), safe(m.Status))
	case m.Status != "":
		_, err = fmt.Fprintln(w, safe(m.Status))
	}
	return err
}
