package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
	"github.com/tare-engine/tare/cmd/tare/template"
)

// formatHelp describes --format, which is the same everywhere.
const formatHelp = `Print by a template:
'table':            A table with column headers (default)
'table TEMPLATE':   A table of what the Go template picks
'json':             JSON, one object a line
'TEMPLATE':         What the Go template picks`

// addObjectFormat declares --format of commands that show one object.
func addObjectFormat(f *pflag.FlagSet, to *string) {
	f.StringVarP(to, "format", "f", "", "Print by a template:\n'json':             JSON\n'TEMPLATE':         What the Go template picks")
}

// badTemplate is the exit code of most commands that are given a malformed one.
const badTemplate = 64

// parseFormat makes the template of a command that shows objects; "json" is one.
func parseFormat(text string) (*template.Template, error) {
	if text == "json" {
		text = "{{json .}}"
	}
	t, err := format.Parse(text)
	if err != nil {
		return nil, &exitError{badTemplate, "template parsing error: " + err.Error()}
	}
	return t, nil
}

// printBy shows an object by the template that --format gives, or as JSON.
func printBy(out io.Writer, text string, object any) error {
	t, err := parseFormat(text)
	if err != nil {
		return err
	}
	return format.Execute(format.Screen(out, text), t, object)
}

// filterFlag is --filter: name=value, several times.
type filterFlag struct{ to api.Filters }

func (f filterFlag) String() string { return "" }
func (f filterFlag) Type() string   { return "filter" }

func (f filterFlag) Set(s string) error {
	if s == "" {
		return nil
	}
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("bad format of filter (expected name=value)")
	}
	f.to.Add(strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value))
	return nil
}

// aliases names the other places of a command in the tree, for its help.
func aliases(paths ...string) map[string]string {
	for i := range paths {
		paths[i] = program + " " + paths[i]
	}
	return map[string]string{"aliases": strings.Join(paths, ", ")}
}

// parallel bounds how many names one command works on at a time.
const parallel = 50

// errSaid is what each is told when there was nothing to do, the user knows,
// and it is no failure.
var errSaid = errors.New("nothing to do")

// each does one thing for several names at once, goes on after a failure, and
// prints the name of each that went well, in the order they were given. The
// failures together are the result, a line each.
func each(out io.Writer, names []string, do func(name string) error) error {
	results := make([]chan error, len(names))
	slots := make(chan struct{}, parallel)
	for i := range names {
		results[i] = make(chan error, 1)
	}
	go func() {
		for i, name := range names {
			slots <- struct{}{}
			go func() {
				results[i] <- do(name)
				<-slots
			}()
		}
	}()
	var errs []error
	for i, name := range names {
		switch err := <-results[i]; {
		case errors.Is(err, errSaid):
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(out, safe(name))
	}
	return errors.Join(errs...)
}

// connected wraps what a command does with the engine.
func (c *cli) connected(do func(ctx context.Context, cl *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cl, err := c.connect()
		if err != nil {
			return err
		}
		return do(cmd.Context(), cl, args)
	}
}

// optionalInt is a number that may be left out; it is nil then.
type optionalInt struct{ to **int }

func (o optionalInt) String() string { return "" }
func (o optionalInt) Type() string   { return "int" }

func (o optionalInt) Set(s string) error {
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil {
		return err
	}
	v := int(n)
	*o.to = &v
	return nil
}
