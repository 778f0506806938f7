package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type eventsOptions struct {
	filters      api.Filters
	format       string
	since, until string
}

func newEventsCommand(c *cli) *cobra.Command {
	o := eventsOptions{filters: api.Filters{}}
	cmd := &cobra.Command{
		Use:         "events [OPTIONS]",
		Short:       "Show what happens, as it happens",
		Args:        noArgs,
		Annotations: aliases("system events", "events"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			return runEvents(ctx, cl, c.out, o)
		}),
	}
	f := cmd.Flags()
	f.VarP(filterFlag{o.filters}, "filter", "f", "Show only what meets a condition, such as event=die")
	f.StringVar(&o.format, "format", "", "Print by a template:\n'json':             JSON, one event a line\n'TEMPLATE':         What the Go template picks")
	f.StringVar(&o.since, "since", "", "Begin with what happened since a time")
	f.StringVar(&o.until, "until", "", "End at a time")
	return cmd
}

func runEvents(ctx context.Context, cl *client.Client, out io.Writer, o eventsOptions) error {
	now := time.Now()
	var since, until time.Time
	var err error
	if o.since != "" {
		if since, err = api.ParseTime(o.since, now); err != nil {
			return err
		}
	}
	if o.until != "" {
		if until, err = api.ParseTime(o.until, now); err != nil {
			return err
		}
	}
	show := printEvent
	if o.format != "" {
		if show, err = eventTemplate(out, o.format); err != nil {
			return err
		}
	}
	return cl.Events(ctx, since, until, o.filters, func(m events.Message) error { return show(out, m) })
}

// printEvent prints an event as a line: when, what, to what, its attributes.
func printEvent(out io.Writer, m events.Message) error {
	var b strings.Builder
	b.WriteString(eventTime(m).Format("2006-01-02T15:04:05.000000000Z07:00"))
	fmt.Fprintf(&b, " %s %s %s", m.Type, m.Action, m.Actor.ID)
	if len(m.Actor.Attributes) > 0 {
		var list []string
		for _, k := range slices.Sorted(maps.Keys(m.Actor.Attributes)) {
			list = append(list, k+"="+m.Actor.Attributes[k])
		}
		b.WriteString(" (" + strings.Join(list, ", ") + ")")
	}
	_, err := fmt.Fprintln(out, safe(b.String()))
	return err
}

func eventTime(m events.Message) time.Time {
	if m.TimeNano != 0 {
		return time.Unix(0, m.TimeNano)
	}
	return time.Unix(m.Time, 0)
}

// eventTemplate returns what prints events by a template.
func eventTemplate(out io.Writer, text string) (func(io.Writer, events.Message) error, error) {
	if text == "json" {
		text = "{{json .}}"
	}
	t, err := format.Parse(text)
	if err == nil { // tried before anything happens
		err = format.Execute(io.Discard, t, &events.Message{})
	}
	if err != nil {
		return nil, &exitError{badTemplate, "Error parsing format: " + err.Error()}
	}
	out = format.Screen(out, text)
	return func(_ io.Writer, m events.Message) error { return format.Execute(out, t, &m) }, nil
}
