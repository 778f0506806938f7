// Package cliplugin finds the plugins of docker's command line, such as compose and
// buildx, and runs them as docker does.
//
// A plugin is a program docker-NAME in one of a few directories. Called with the one
// argument "docker-cli-plugin-metadata" it says in JSON what it is; called with a
// whole command line, global flags and its own name included, it does the work:
//
//	docker-compose --context box compose up -d
//
// Whose files they are is checked before they are run: a program that another user
// may have put there is none of ours.
package cliplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	prefix          = "docker-"
	metadataCommand = "docker-cli-plugin-metadata"
	callerVariable  = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"

	metadataTime  = 30 * time.Second // a program on a slow disk
	metadataLimit = 1 << 20          // bytes
)

// Metadata is what a plugin says of itself.
type Metadata struct {
	SchemaVersion    string `json:",omitempty"`
	Vendor           string `json:",omitempty"`
	Version          string `json:",omitempty"`
	ShortDescription string `json:",omitempty"`
	URL              string `json:",omitempty"`
	Hidden           bool   `json:",omitempty"` // from help and completion
}

// Plugin is a program that is there under a plugin's name.
type Plugin struct {
	Metadata
	Name          string   `json:",omitempty"`
	Path          string   `json:",omitempty"`
	Err           error    `json:"-"`             // why it cannot be used
	Problem       string   `json:"Err,omitempty"` // Err as a text
	ShadowedPaths []string `json:",omitempty"`    // others of its name, further back
}

// Set is where plugins are looked for.
type Set struct {
	Dirs    []string          // the first that has one wins
	Builtin func(string) bool // names that are commands already
}

// SystemDirs are docker's directories beside the user's own.
func SystemDirs() []string {
	if runtime.GOOS == "windows" {
		return []string{filepath.Join(os.Getenv("ProgramData"), "Docker", "cli-plugins"), filepath.Join(os.Getenv("ProgramFiles"), "Docker", "cli-plugins")}
	}
	return []string{"/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins"}
}

// Find looks for the plugin of a name, without running it; "" is none.
func (s Set) Find(name string) string {
	if !isName(name) {
		return ""
	}
	for _, dir := range s.Dirs {
		path := filepath.Join(dir, prefix+name+suffix)
		if _, err := os.Stat(path); err == nil || !errors.Is(err, os.ErrNotExist) {
			return path
		}
	}
	return ""
}

// Get returns the plugin of a name with what it says of itself, nil if there is none.
func (s Set) Get(ctx context.Context, name string) *Plugin {
	path := s.Find(name)
	if path == "" {
		return nil
	}
	return s.ask(ctx, name, path)
}

// List returns all that are there, sorted, with those that cannot be used.
func (s Set) List(ctx context.Context) []*Plugin {
	paths := map[string][]string{}
	for _, dir := range s.Dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // most of them are not there
		}
		for _, e := range entries {
			name, ok := strings.CutPrefix(e.Name(), prefix)
			if !ok || suffix != "" && !strings.HasSuffix(name, suffix) {
				continue
			}
			path := filepath.Join(dir, e.Name())
			if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
				continue
			}
			name = strings.TrimSuffix(name, suffix)
			paths[name] = append(paths[name], path)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	list := []*Plugin{} // of none, JSON says []
	for name, at := range paths {
		wg.Go(func() {
			p := s.ask(ctx, name, at[0])
			p.ShadowedPaths = at[1:]
			mu.Lock()
			defer mu.Unlock()
			list = append(list, p)
		})
	}
	wg.Wait()
	slices.SortFunc(list, func(a, b *Plugin) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// ask has a plugin say what it is.
func (s Set) ask(ctx context.Context, name, path string) *Plugin {
	p := &Plugin{Name: name, Path: path}
	if p.Err = s.read(ctx, p); p.Err != nil {
		p.Problem = p.Err.Error()
	}
	return p
}

func (s Set) read(ctx context.Context, p *Plugin) error {
	switch {
	case !isName(p.Name):
		return fmt.Errorf("%q is no name of a plugin: it begins with a lower-case letter, and letters and digits follow", p.Name)
	case s.Builtin != nil && s.Builtin(p.Name):
		return fmt.Errorf("plugin %q duplicates builtin command", p.Name)
	}
	if err := checkOwner(p.Path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTime)
	defer cancel()
	out := &limited{}
	cmd := exec.CommandContext(ctx, p.Path, metadataCommand)
	cmd.Env = environment(nil)
	cmd.Stdout = out
	cmd.WaitDelay = time.Second // what it has left behind may hold the pipe
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("failed to fetch metadata: %w", err)
	}
	if err := json.Unmarshal(out.said, &p.Metadata); err != nil {
		return fmt.Errorf("invalid metadata: %w", err)
	}
	if err := checkSchema(p.SchemaVersion); err != nil {
		return err
	}
	if p.Vendor == "" {
		return errors.New("plugin metadata does not define a vendor")
	}
	return nil
}

// limited keeps the beginning of what a program says, and ends it when it goes on.
type limited struct{ said []byte }

func (l *limited) Write(b []byte) (int, error) {
	if len(l.said)+len(b) > metadataLimit {
		return 0, errors.New("the metadata does not end")
	}
	l.said = append(l.said, b...)
	return len(b), nil
}

// checkSchema takes versions before 2, as docker does.
func checkSchema(version string) error {
	major, _, ok := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	switch {
	case version == "":
		return errors.New("plugin SchemaVersion version cannot be empty")
	case !ok || err != nil:
		return fmt.Errorf("plugin SchemaVersion %q has wrong format: must be <major>.<minor>.<patch>", version)
	case n > 1:
		return fmt.Errorf("plugin SchemaVersion %q is not supported: must be lower than 2.0.0", version)
	}
	return nil
}

// Command is a run of the plugin with a whole command line; variables are added to
// its environment.
func (p *Plugin) Command(args, variables []string) *exec.Cmd {
	cmd := exec.Command(p.Path, args...)
	cmd.Env = environment(variables)
	return cmd
}

// environment tells a plugin by which command it was called, so that it can call it
// in turn.
func environment(more []string) []string {
	return append(append(os.Environ(), callerVariable+"="+os.Args[0]), more...)
}

// isName reports whether a word may be a plugin's name.
func isName(s string) bool {
	for i, c := range s {
		if (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
