package image

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
)

// changing are the instructions of a Dockerfile that change a configuration
// and nothing else.
var changing = []string{"cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild", "shell", "stopsignal", "user", "volume", "workdir"}

// Limits of what a client can make us do: variables that hold variables, and
// ranges of ports, grow without bound.
const (
	maxChanges   = 256 << 10 // bytes of all instructions
	maxExpansion = 4 << 20   // bytes of all variables' values that are put in
	maxPorts     = 1 << 18   // named by all instructions
)

// replacement finds variables with a pattern to be replaced, of which each
// match may grow: ${name/pattern/text}.
var replacement = regexp.MustCompile(`\$\{\w+/`)

// Change applies instructions of a Dockerfile to a configuration, which is
// changed in place but for what it shares with others.
func Change(c *dockerspec.DockerOCIImageConfig, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	text := strings.Join(lines, "\n")
	if len(text) > maxChanges {
		return errdefs.New(errdefs.InvalidArgument, "changes of %d bytes, at most %d are possible", len(text), maxChanges)
	}
	if replacement.MatchString(text) {
		return errdefs.New(errdefs.InvalidArgument, "replacements in variables (${name/pattern/text}) are not offered in changes")
	}
	file, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	for _, n := range file.AST.Children {
		if !slices.Contains(changing, strings.ToLower(n.Value)) {
			return errdefs.New(errdefs.InvalidArgument, "%s is not a valid change command", n.Value)
		}
	}
	ch := &changer{c: c, lex: shell.NewLex(file.EscapeToken)}
	for _, n := range file.AST.Children {
		command, err := instructions.ParseCommand(n)
		if err == nil {
			err = ch.apply(command)
		}
		if err != nil {
			return errdefs.As(errdefs.InvalidArgument, err)
		}
	}
	return nil
}

type changer struct {
	c        *dockerspec.DockerOCIImageConfig
	lex      *shell.Lex
	cmdSet   bool
	expanded int // bytes
	ports    int
}

func (ch *changer) expand(word string) (string, error) {
	s, _, err := ch.lex.ProcessWord(word, ch.env())
	return s, cmp.Or(err, ch.overgrown())
}

// env is what words are expanded with; it counts.
func (ch *changer) env() shell.EnvGetter {
	return counted{shell.EnvsFromSlice(ch.c.Env), &ch.expanded}
}

type counted struct {
	shell.EnvGetter
	n *int
}

// Get returns nothing more once that is too much; overgrown says so.
func (c counted) Get(name string) (string, bool) {
	v, ok := c.EnvGetter.Get(name)
	if *c.n += len(v); *c.n > maxExpansion {
		return "", ok
	}
	return v, ok
}

func (ch *changer) overgrown() error {
	if ch.expanded > maxExpansion {
		return errdefs.New(errdefs.InvalidArgument, "variables of more than %d bytes", maxExpansion)
	}
	return nil
}

func (ch *changer) apply(command instructions.Command) error {
	if e, ok := command.(instructions.SupportsSingleWordExpansion); ok {
		if err := e.Expand(ch.expand); err != nil {
			return err
		}
	}
	c := ch.c
	switch i := command.(type) {
	case *instructions.CmdCommand:
		c.Cmd, ch.cmdSet = ch.commandLine(i.ShellDependantCmdLine), true
	case *instructions.EntrypointCommand:
		c.Entrypoint = ch.commandLine(i.ShellDependantCmdLine)
		if !ch.cmdSet { // the arguments were those of another program
			c.Cmd = nil
		}
	case *instructions.EnvCommand:
		c.Env = slices.Clone(c.Env)
		for _, kv := range i.Env {
			c.Env = setEnv(c.Env, kv.Key, kv.Value)
		}
	case *instructions.LabelCommand:
		c.Labels = cloneMap(c.Labels)
		for _, kv := range i.Labels {
			c.Labels[kv.Key] = kv.Value
		}
	case *instructions.ExposeCommand:
		return ch.expose(i.Ports)
	case *instructions.HealthCheckCommand:
		c.Healthcheck = i.Health
	case *instructions.OnbuildCommand:
		c.OnBuild = append(slices.Clone(c.OnBuild), i.Expression)
	case *instructions.ShellCommand:
		c.Shell = i.Shell
	case *instructions.StopSignalCommand:
		c.StopSignal = i.Signal
	case *instructions.UserCommand:
		c.User = i.User
	case *instructions.VolumeCommand:
		c.Volumes = cloneMap(c.Volumes)
		for _, v := range i.Volumes {
			if v = strings.TrimSpace(v); v == "" {
				return errdefs.New(errdefs.InvalidArgument, "VOLUME specified can not be an empty string")
			}
			c.Volumes[v] = struct{}{}
		}
	case *instructions.WorkdirCommand:
		c.WorkingDir = path.Join("/", c.WorkingDir, i.Path)
		if path.IsAbs(i.Path) {
			c.WorkingDir = path.Clean(i.Path)
		}
	}
	return nil
}

// commandLine returns a command; one in the form of a shell's line gets the shell.
func (ch *changer) commandLine(l instructions.ShellDependantCmdLine) []string {
	if !l.PrependShell || l.CmdLine == nil {
		return l.CmdLine
	}
	sh := ch.c.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(sh), l.CmdLine...)
}

func (ch *changer) expose(ports []string) error {
	ch.c.ExposedPorts = cloneMap(ch.c.ExposedPorts)
	for _, word := range ports {
		words, err := ch.lex.ProcessWords(word, ch.env())
		if err := cmp.Or(err, ch.overgrown()); err != nil {
			return err
		}
		for _, w := range words {
			r, err := network.ParsePortRange(w)
			if err != nil {
				return errdefs.New(errdefs.InvalidArgument, "invalid containerPort: %s", w)
			}
			for p := range r.All() {
				if ch.ports++; ch.ports > maxPorts {
					return errdefs.New(errdefs.InvalidArgument, "more than %d ports", maxPorts)
				}
				ch.c.ExposedPorts[p.String()] = struct{}{}
			}
		}
	}
	return nil
}

func setEnv(env []string, name, value string) []string {
	for i, kv := range env {
		if n, _, _ := strings.Cut(kv, "="); n == name {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

// cloneMap is maps.Clone that makes a map of nil.
func cloneMap[V any](m map[string]V) map[string]V {
	c := make(map[string]V, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}
