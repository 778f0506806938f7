package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/cmd/tare/configfile"
)

// contextOptions are those of create and update alike.
type contextOptions struct {
	description, from string
	engine            map[string]string // --docker
}

const contextLong = `Keys of --docker:
  host             where the engine listens
  ca, cert, key    files of a TLS client, which are copied
  skip-tls-verify  do not verify the engine's certificate
  from             another context to take all this from`

func (o *contextOptions) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.description, "description", "", "Description of the context")
	cmd.Flags().StringToStringVar(&o.engine, "docker", nil, "The engine, as key=value,...")
}

func newContextCreateCommand(c *cli) *cobra.Command {
	var o contextOptions
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] CONTEXT",
		Short: "Create a context",
		Long:  contextLong,
		Args:  exactArgs(1),
		RunE:  c.editContext("created", &o, c.createContext),
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.from, "from", "", "Create it as a copy of another context")
	return cmd
}

func newContextUpdateCommand(c *cli) *cobra.Command {
	var o contextOptions
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] CONTEXT",
		Short: "Change a context",
		Long:  contextLong,
		Args:  exactArgs(1),
		RunE:  c.editContext("updated", &o, c.updateContext),
	}
	o.add(cmd)
	return cmd
}

// editContext makes a command of what changes one context, and tells that it
// was done.
func (c *cli) editContext(did string, o *contextOptions, edit func(*configFile, *contextOptions, string) error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		config, err := c.settings()
		if err != nil {
			return err
		}
		if err := edit(config, o, args[0]); err != nil {
			return err
		}
		return c.didContext(did, args[0])
	}
}

func (c *cli) updateContext(config *configFile, o *contextOptions, name string) error {
	m, err := config.context(name)
	if err != nil {
		return err
	}
	if o.description != "" {
		m.Metadata.Description = o.description
	}
	var files map[string][]byte // nil: they stay
	if o.engine != nil {
		if files, err = c.setEngine(config, m, o.engine); err != nil {
			return err
		}
	}
	return config.writeContext(m, files)
}

func newContextRmCommand(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:         "rm [OPTIONS] CONTEXT [CONTEXT...]",
		Short:       "Remove contexts",
		Args:        minArgs(1),
		Annotations: aliases("context rm", "context remove"),
		RunE: func(_ *cobra.Command, names []string) error {
			config, err := c.settings()
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range names {
				if err := c.removeContext(config, name, force); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintln(c.out, safe(name))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Remove a context that is in use")
	return cmd
}

// didContext tells what has become of a context.
func (c *cli) didContext(what, name string) error {
	fmt.Fprintf(c.err, "Successfully %s context %q\n", what, name)
	_, err := fmt.Fprintln(c.out, safe(name))
	return err
}

func (c *cli) createContext(config *configFile, o *contextOptions, name string) error {
	if err := config.freeContext(name); err != nil {
		return err
	}
	from := o.from
	if from == "" && o.engine == nil {
		from = c.contextName(config) // docker copies the one in use
	}
	m := &contextMeta{Name: name, Endpoints: map[string]contextEndpoint{}}
	files := map[string][]byte{}
	var err error
	if from != "" {
		source, err := c.copyEngine(config, m, from, files)
		if err != nil {
			return err
		}
		m.Metadata = source.Metadata
	}
	if o.description != "" {
		m.Metadata.Description = o.description
	}
	if o.engine != nil {
		if files, err = c.setEngine(config, m, o.engine); err != nil {
			return err
		}
	}
	return config.writeContext(m, files)
}

// freeContext refuses a name that is taken or cannot be one.
func (c *configFile) freeContext(name string) error {
	if name == defaultContext {
		return fmt.Errorf("%q is a reserved context name", name)
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if len(name) < 2 || !strings.Contains(letters, name[:1]) || strings.Trim(name, letters+"_.+-") != "" {
		return fmt.Errorf(`context name %q is invalid, names are validated against regexp "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"`, name)
	}
	switch _, err := os.Stat(contextDir(c.dir, "meta", name)); {
	case err == nil:
		return fmt.Errorf("context %q already exists", name)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// copyEngine gives m the endpoint of another context, and files its keys.
func (c *cli) copyEngine(config *configFile, m *contextMeta, name string, files map[string][]byte) (*contextMeta, error) {
	if name == defaultContext {
		source := c.defaultMeta()
		source.Metadata.Description = defaultDescription
		maps.Copy(m.Endpoints, source.Endpoints)
		return source, nil
	}
	source, err := config.context(name)
	if err != nil {
		return nil, err
	}
	maps.Copy(m.Endpoints, source.Endpoints)
	stored, err := config.contextFiles(name)
	maps.Copy(files, stored)
	return source, err
}

// contextFiles reads the keys stored for a context's engine.
func (c *configFile) contextFiles(name string) (map[string][]byte, error) {
	dir := filepath.Join(contextDir(c.dir, "tls", name), "docker")
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := map[string][]byte{}
	for _, f := range list {
		if files[f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// setEngine gives m the endpoint that --docker says and returns its keys.
func (c *cli) setEngine(config *configFile, m *contextMeta, keys map[string]string) (map[string][]byte, error) {
	files := map[string][]byte{}
	names := map[string]string{"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if names[key] == "" && key != "host" && key != "skip-tls-verify" && key != "from" {
			return nil, fmt.Errorf("unable to create docker endpoint config: unrecognized config key: %s", key)
		}
	}
	if from, ok := keys["from"]; ok {
		_, err := c.copyEngine(config, m, from, files)
		return files, err
	}
	e := contextEndpoint{Host: keys["host"]}
	if e.Host != "" {
		e.Host = completeHost(e.Host)
	}
	if text, ok := keys["skip-tls-verify"]; ok {
		var err error
		if e.SkipTLSVerify, err = strconv.ParseBool(text); err != nil {
			return nil, fmt.Errorf("unable to create docker endpoint config: skip-tls-verify: %w", err)
		}
	}
	for key, name := range names {
		if path := keys[key]; path != "" {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("unable to create docker endpoint config: %w", err)
			}
			files[name] = text
		}
	}
	m.Endpoints["docker"] = e
	return files, nil
}

// writeContext stores a context, and with files not nil its keys. They come
// first: a context is there when its description is.
func (c *configFile) writeContext(m *contextMeta, files map[string][]byte) error {
	if files != nil {
		if err := c.writeContextFiles(m.Name, files); err != nil {
			return err
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	dir := contextDir(c.dir, "meta", m.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return configfile.Replace(filepath.Join(dir, "meta.json"), text)
}

func (c *configFile) writeContextFiles(name string, files map[string][]byte) error {
	dir := contextDir(c.dir, "tls", name)
	if err := os.RemoveAll(dir); err != nil || len(files) == 0 {
		return err
	}
	dir = filepath.Join(dir, "docker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) removeContext(config *configFile, name string, force bool) error {
	if name == defaultContext {
		return fmt.Errorf("context %q cannot be removed", name)
	}
	if _, err := os.Stat(contextDir(config.dir, "meta", name)); err != nil && !force {
		return fmt.Errorf("context %q does not exist", name)
	}
	if name == c.contextName(config) && !force {
		return fmt.Errorf("context %q is in use, set -f flag to force remove", name)
	}
	if name == config.CurrentContext {
		if err := config.setCurrentContext(""); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(contextDir(config.dir, "meta", name)), os.RemoveAll(contextDir(config.dir, "tls", name)))
}
