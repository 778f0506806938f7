package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/cmd/tare/format"
)

func newContextLsCommand(c *cli) *cobra.Command {
	var tmpl string
	var quiet bool
	cmd := &cobra.Command{
		Use:         "ls [OPTIONS]",
		Short:       "List contexts",
		Args:        noArgs,
		Annotations: aliases("context ls", "context list"),
		RunE: func(*cobra.Command, []string) error {
			config, err := c.settings()
			if err != nil {
				return err
			}
			rows, err := c.contextRows(config)
			if err != nil {
				return err
			}
			if err := printContexts(c.out, rows, tmpl, quiet); err != nil {
				return err
			}
			warnOverridden(c.err)
			return nil
		},
	}
	cmd.Flags().StringVar(&tmpl, "format", "", formatHelp)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Show names only")
	return cmd
}

func printContexts(out io.Writer, rows []contextRow, tmpl string, quiet bool) error {
	if quiet && tmpl == "" {
		return format.Lines(out, contextRow.Name, rows)
	}
	return format.Print(out, tmpl, []format.Column[contextRow]{
		{Title: "NAME", Value: contextRow.marked},
		{Title: "DESCRIPTION", Value: contextRow.Description},
		{Title: "DOCKER ENDPOINT", Value: contextRow.DockerEndpoint},
		{Title: "ERROR", Value: contextRow.Error},
	}, contextFields(), rows)
}

func newContextUseCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "use CONTEXT",
		Short: "Choose the context that later commands use",
		Args:  exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			config, err := c.settings()
			if err != nil {
				return err
			}
			name := args[0]
			if name == defaultContext {
				err = config.setCurrentContext("")
			} else if _, err = config.context(name); err == nil {
				err = config.setCurrentContext(name)
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(c.out, safe(name))
			fmt.Fprintf(c.err, "Current context is now %q\n", name)
			if name != defaultContext {
				warnOverridden(c.err)
			}
			return nil
		},
	}
}

// warnOverridden tells that the chosen context does not count at present.
func warnOverridden(w io.Writer) {
	for _, name := range []string{"TARE_HOST", "DOCKER_HOST"} {
		if os.Getenv(name) != "" {
			fmt.Fprintf(w, "Warning: %s environment variable overrides the active context. "+
				"To use a context, either set the global --context flag, or unset %s environment variable.\n", name, name)
			return
		}
	}
}

func newContextShowCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Print the name of the context in use",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			config, err := c.settings()
			if err == nil {
				_, err = fmt.Fprintln(c.out, safe(c.contextName(config)))
			}
			return err
		},
	}
}

func newContextInspectCommand(c *cli) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] [CONTEXT] [CONTEXT...]",
		Short: "Show all that is known of contexts",
		RunE: func(_ *cobra.Command, names []string) error {
			config, err := c.settings()
			if err != nil {
				return err
			}
			if len(names) == 0 {
				names = []string{c.contextName(config)}
			}
			return c.inspectContexts(config, o, names)
		},
	}
	addObjectFormat(cmd.Flags(), &o.format)
	return cmd
}

func (c *cli) inspectContexts(config *configFile, o inspectOptions, names []string) error {
	var found []json.RawMessage
	var errs []error
	for _, name := range names {
		raw, err := c.describeContext(config, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, raw)
	}
	if o.format == "" || o.format == "json" {
		return errors.Join(append(errs, printObjects(c.out, found, o.format == "json"))...)
	}
	t, err := parseFormat(o.format)
	if err != nil {
		return err
	}
	for _, raw := range found {
		errs = append(errs, printObject(format.Screen(c.out, o.format), t.Strict(), raw, nil))
	}
	return errors.Join(errs...)
}

// describeContext is what "context inspect" shows of one context.
func (c *cli) describeContext(config *configFile, name string) (json.RawMessage, error) {
	m, meta, tls := c.defaultMeta(), "<IN MEMORY>", "<IN MEMORY>"
	material := map[string][]string{}
	if name != defaultContext {
		var err error
		if m, err = config.context(name); err != nil {
			return nil, err
		}
		meta, tls = contextDir(config.dir, "meta", name), contextDir(config.dir, "tls", name)
		files, _ := os.ReadDir(filepath.Join(tls, "docker")) // no folder: no keys
		for _, f := range files {
			material["docker"] = append(material["docker"], f.Name())
		}
	}
	return json.Marshal(struct {
		*contextMeta
		TLSMaterial map[string][]string
		Storage     map[string]string
	}{m, material, map[string]string{"MetadataPath": meta, "TLSPath": tls}})
}

const defaultDescription = "Current DOCKER_HOST based configuration"

// defaultMeta describes the context that stands for flags and environment.
func (c *cli) defaultMeta() *contextMeta {
	return &contextMeta{Name: defaultContext, Endpoints: map[string]contextEndpoint{"docker": {Host: c.hostName()}}}
}

// contextRows lists all contexts, the default one first.
func (c *cli) contextRows(config *configFile) ([]contextRow, error) {
	current := c.contextName(config)
	def := c.defaultMeta()
	def.Metadata.Description = defaultDescription
	rows := []contextRow{{m: def, current: current == defaultContext}}
	dirs, err := os.ReadDir(filepath.Join(config.dir, "contexts", "meta"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, d := range dirs {
		text, err := os.ReadFile(filepath.Join(config.dir, "contexts", "meta", d.Name(), "meta.json"))
		if err != nil {
			continue // not a context
		}
		var m contextMeta
		if err := json.Unmarshal(text, &m); err != nil {
			rows = append(rows, contextRow{m: &contextMeta{Name: d.Name()}, err: err.Error()})
			continue
		}
		rows = append(rows, contextRow{m: &m, current: m.Name == current})
	}
	slices.SortFunc(rows[1:], func(a, b contextRow) int { return compareNatural(a.m.Name, b.m.Name) })
	if !slices.ContainsFunc(rows, func(r contextRow) bool { return r.current }) {
		rows = append(rows, contextRow{m: &contextMeta{Name: current}, current: true, err: fmt.Sprintf("context %q: context not found", current)})
	}
	return rows, nil
}

// contextFields are what templates see of a context.
func contextFields() format.Fields[contextRow] {
	return format.Fields[contextRow]{Type: "*formatter.clientContextContext", List: []format.Field[contextRow]{
		format.Text("Name", "", contextRow.Name),
		format.Text("Description", "", contextRow.Description),
		format.Text("DockerEndpoint", "DOCKER ENDPOINT", contextRow.DockerEndpoint),
		format.Text("Error", "", contextRow.Error),
		{Name: "Current", Value: func(r contextRow) any { return r.current }},
	}}
}

// contextRow is a context as "context ls" and templates show it.
type contextRow struct {
	m       *contextMeta
	current bool
	err     string
}

// marked is the name, with a star behind the one in use.
func (r contextRow) marked() string {
	if r.current {
		return r.m.Name + " *"
	}
	return r.m.Name
}

func (r contextRow) Name() string           { return r.m.Name }
func (r contextRow) Description() string    { return strings.TrimSpace(r.m.Metadata.Description) }
func (r contextRow) DockerEndpoint() string { return r.m.Endpoints["docker"].Host }
func (r contextRow) Error() string          { return r.err }
