package main

import (
	"errors"
	"strings"

	"github.com/tare-engine/tare/api"
)

// formatHelp describes --format, which is the same everywhere.
const formatHelp = `Print by a template:
'table':            A table with column headers (default)
'table TEMPLATE':   A table of what the Go template picks
'json':             JSON, one object a line
'TEMPLATE':         What the Go template picks`

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

// each does one thing for several names and goes on after a failure. The
// failures together are the result, a line each.
func each(names []string, do func(name string) error) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, do(name))
	}
	return errors.Join(errs...)
}
