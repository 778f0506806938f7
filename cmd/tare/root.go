package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// globalFlags stand before the command.
type globalFlags struct {
	config, context   string
	hosts             []string
	debug             bool
	logLevel          string
	tls, tlsVerify    bool
	caCert, cert, key string
	version           bool
	changed           func(name string) bool
}

func (g *globalFlags) add(fs *pflag.FlagSet) {
	dir := configDir()
	certs := dir
	if d := os.Getenv("DOCKER_CERT_PATH"); d != "" {
		certs = d
	}
	fs.StringVar(&g.config, "config", dir, "Location of the client's configuration `files`")
	fs.Lookup("config").Usage = "Location of the client's configuration files"
	fs.StringVarP(&g.context, "context", "c", "", `Context to find the engine by (wins over DOCKER_HOST and over what "`+program+` context use" set)`)
	fs.BoolVarP(&g.debug, "debug", "D", os.Getenv("DEBUG") != "", "Enable debug mode")
	fs.VarP(&hostList{&g.hosts}, "host", "H", "Engine socket to connect to")
	fs.StringVarP(&g.logLevel, "log-level", "l", "info", `Set the logging level ("debug", "info", "warn", "error", "fatal")`)
	fs.BoolVar(&g.tls, "tls", false, "Use TLS; implied by --tlsverify")
	fs.StringVar(&g.caCert, "tlscacert", filepath.Join(certs, "ca.pem"), "Trust certificates signed by this CA only")
	fs.StringVar(&g.cert, "tlscert", filepath.Join(certs, "cert.pem"), "Path to the TLS certificate file")
	fs.StringVar(&g.key, "tlskey", filepath.Join(certs, "key.pem"), "Path to the TLS key file")
	fs.BoolVar(&g.tlsVerify, "tlsverify", os.Getenv("DOCKER_TLS_VERIFY") != "", "Use TLS and verify the engine's certificate")
	fs.BoolVarP(&g.version, "version", "v", false, "Print version information and quit")
	g.changed = fs.Changed
}

// validate refuses values no command could use.
func (g *globalFlags) validate() error {
	switch g.logLevel {
	case "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic":
	default:
		return &exitError{1, fmt.Sprintf("Unable to parse logging level: %s", g.logLevel)}
	}
	if len(g.hosts) > 1 {
		return notInitialized("Specify only one -H")
	}
	if len(g.hosts) > 0 && g.context != "" {
		return &exitError{1, "conflicting options: cannot specify both --host and --context"}
	}
	return nil
}

// hostList is the -H flag.
type hostList struct{ to *[]string }

func (h *hostList) String() string     { return "" }
func (h *hostList) Type() string       { return "string" }
func (h *hostList) Set(s string) error { *h.to = append(*h.to, s); return nil }

// newRootCommand builds the part of the command tree that args can reach.
func newRootCommand(c *cli, line []string) *cobra.Command {
	root := &cobra.Command{
		Use:               program + " [OPTIONS] COMMAND [ARG...]",
		Short:             "Containers that start in milliseconds and outlive their engine",
		SilenceUsage:      true,
		SilenceErrors:     true,
		TraverseChildren:  true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 0:
				if found, err := c.runPlugin(cmd.Context(), args[0], line, nil); found || err != nil {
					return err
				}
				return unknownCommand(cmd, args[0])
			case c.global.version:
				fmt.Fprintf(c.out, "Tare version %s, build %s\n", version, orNone(commit))
				return nil
			}
			cmd.SetOut(c.err)
			return cmd.Help()
		},
		PersistentPreRunE: func(*cobra.Command, []string) error { return c.global.validate() },
	}
	cobra.EnableCommandSorting = false
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.SetHelpFunc(c.help)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true}) // ours is in the list
	root.Flags().SetInterspersed(false)
	c.global.add(root.Flags())
	args := words(root.Flags(), line)
	plugin, rewritten, err := c.forwarded(line, args)
	if plugin != "" || err != nil {
		root.RunE = func(cmd *cobra.Command, _ []string) error {
			if err != nil {
				return err
			}
			return c.runForwarded(cmd, plugin, rewritten, args)
		}
		return root
	}
	c.completing = len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
	assemble(c, root, c.tree, args)
	if c.completing {
		c.completeFlags(root)
		c.addPluginStubs(root)
	}
	return root
}

// assemble adds the commands of a list below a parent: the called one alone
// if args begin with a name, all of them for help and completion.
func assemble(c *cli, parent *cobra.Command, list []command, args []string) {
	if len(args) > 0 {
		for _, e := range list {
			if e.is(args[0]) {
				parent.AddCommand(e.command(c, args[1:]))
				return
			}
		}
	}
	for _, e := range list {
		parent.AddCommand(e.command(c, nil))
	}
}

// command is an entry in the tree: a leaf has build, a group has sub.
type command struct {
	name  string // with its other names behind it: "ls list ps"
	short string // of a group
	group string // the heading it stands under
	build func(*cli) *cobra.Command
	sub   []command
	names string // what the arguments name, for completion
	one   bool   // only the first of them does
}

func (e command) is(word string) bool {
	for name := range strings.FieldsSeq(e.name) {
		if name == word {
			return true
		}
	}
	return false
}

func (e command) command(c *cli, args []string) *cobra.Command {
	var cmd *cobra.Command
	if e.build != nil {
		cmd = e.build(c)
	} else {
		cmd = newGroupCommand(c, e)
		assemble(c, cmd, e.sub, args)
	}
	names := strings.Fields(e.name)
	cmd.Use = names[0] + strings.TrimPrefix(cmd.Use, strings.Fields(cmd.Use)[0])
	cmd.Aliases = names[1:]
	cmd.DisableFlagsInUseLine = true
	cmd.Flags().BoolP("help", "", false, "Print usage")
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations["group"] = e.group
	if c.completing {
		c.completeFlags(cmd)
	}
	if e.names != "" {
		cmd.ValidArgsFunction = c.completer(e.names, e.one)
	}
	return cmd
}

// newGroupCommand makes a command that only has commands below it.
func newGroupCommand(c *cli, e command) *cobra.Command {
	return &cobra.Command{
		Use:   "group COMMAND",
		Short: e.short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			cmd.SetOut(c.err)
			return cmd.Help()
		},
	}
}

// words returns the command words of args, past the global flags.
func words(global *pflag.FlagSet, args []string) []string {
	for len(args) > 0 {
		a := args[0]
		if a == "--" || !strings.HasPrefix(a, "-") || a == "-" {
			return args
		}
		args = args[1:]
		if takesValue(global, a) && len(args) > 0 {
			args = args[1:]
		}
	}
	return nil
}

// takesValue reports whether the word after flag a is its value.
func takesValue(fs *pflag.FlagSet, a string) bool {
	if name, ok := strings.CutPrefix(a, "--"); ok {
		f := fs.Lookup(name)
		return f != nil && f.NoOptDefVal == ""
	}
	// Of -DH host, only the last letter may want a value.
	for i := 1; i < len(a); i++ {
		if f := fs.ShorthandLookup(a[i : i+1]); f == nil || f.NoOptDefVal == "" {
			return f != nil && i == len(a)-1
		}
	}
	return false
}

func orNone(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
