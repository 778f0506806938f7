package plugin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Finder finds plugins by the files that tell of them, when they are asked for. Safe for
// concurrent use.
type Finder struct {
	Sockets string   // directory of sockets
	Specs   []string // directories of .spec and .json files, the first counts

	mu     sync.Mutex
	known  map[string]*Plugin   // those that have answered
	silent map[string]time.Time // those that have not, and since when
}

// Docker is a Finder of the directories that Docker's plugins know.
func Docker() *Finder {
	return &Finder{Sockets: "/run/docker/plugins", Specs: []string{"/etc/docker/plugins", "/usr/lib/docker/plugins"}}
}

// handshake is how long a plugin may take to say what it is.
const handshake = 10 * time.Second

// validName is for names that become those of files.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// Get returns a plugin that offers something. NotFound: no file tells of it; the others
// are errors of Docker's kind and text for a plugin that does not answer, or offers
// something else.
func (f *Finder) Get(ctx context.Context, name, capability string) (*Plugin, error) {
	p, err := f.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if !p.Implements(capability) {
		return nil, errdefs.New(errdefs.Internal, "legacy plugin: Plugin does not implement the requested driver")
	}
	return p, nil
}

func (f *Finder) find(ctx context.Context, name string) (*Plugin, error) {
	a, err := f.address(name)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	p := f.known[name]
	f.mu.Unlock()
	if p != nil && p.addr == a {
		return p, nil
	}
	if p, err = newPlugin(name, a); err != nil {
		return nil, fmt.Errorf("legacy plugin: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	if err := p.activate(ctx); err != nil {
		if !errors.Is(err, context.Canceled) { // else the caller has left
			f.note(name, nil)
		}
		return nil, fmt.Errorf("legacy plugin: %w", err)
	}
	f.note(name, p)
	return p, nil
}

// note remembers how a handshake ended; nil: the plugin has not answered.
func (f *Finder) note(name string, p *Plugin) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil {
		f.known, f.silent = map[string]*Plugin{}, map[string]time.Time{}
	}
	delete(f.known, name)
	delete(f.silent, name)
	if p != nil {
		f.known[name] = p
		return
	}
	f.silent[name] = time.Now()
}

// glance is how long those who can go on without a plugin wait for its handshake.
const glance = 2 * time.Second

// Willing returns all plugins that offer something, for who asks each of them and can go
// on without: one that has not answered lately is left out, and named in errs.
func (f *Finder) Willing(ctx context.Context, capability string) (list []*Plugin, errs []error) {
	names := f.Names()
	found, failed := make([]*Plugin, len(names)), make([]error, len(names))
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { found[i], failed[i] = f.willing(ctx, name) })
	}
	all.Wait()
	for i, p := range found {
		switch {
		case failed[i] != nil:
			errs = append(errs, fmt.Errorf("plugin %s: %w", names[i], failed[i]))
		case p.Implements(capability):
			list = append(list, p)
		}
	}
	return list, errs
}

func (f *Finder) willing(ctx context.Context, name string) (*Plugin, error) {
	f.mu.Lock()
	since, silent := f.silent[name]
	f.mu.Unlock()
	if silent && time.Since(since) < quietFor {
		return nil, errQuiet
	}
	p, err := f.find(ctx, name)
	if err == nil && p.Quiet() {
		return nil, errQuiet
	}
	return p, err
}

var errQuiet = errors.New("it has not answered lately")

// Known returns the plugins that have answered already and offer something, by name.
func (f *Finder) Known(capability string) []*Plugin {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*Plugin
	for _, p := range f.known {
		if p.Implements(capability) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *Plugin) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Names are those of the plugins of which a file tells, whatever they are.
func (f *Finder) Names() []string {
	var names []string
	add := func(dir string, kinds ...string) {
		list, _ := os.ReadDir(dir) // mostly it is not there
		for _, d := range list {
			name, kind := d.Name(), filepath.Ext(d.Name())
			if d.IsDir() {
				names = append(names, name)
			} else if slices.Contains(kinds, kind) {
				names = append(names, strings.TrimSuffix(name, kind))
			}
		}
	}
	add(f.Sockets, ".sock")
	for _, dir := range f.Specs {
		add(dir, ".spec", ".json")
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(name string) bool {
		_, err := f.address(name)
		return err != nil
	})
}

// address is where a plugin answers.
type address struct {
	url    string // without a slash at the end
	socket string // "": by TCP
	tls    tlsFiles
}

// tlsFiles are the TLSConfig of a .json file.
type tlsFiles struct {
	InsecureSkipVerify        bool
	CAFile, CertFile, KeyFile string
	given                     bool
}

func (t tlsFiles) config() (*tls.Config, error) {
	if !t.given {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.InsecureSkipVerify}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", t.CAFile)
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// address finds the file that tells of a plugin.
func (f *Finder) address(name string) (address, error) {
	missing := errdefs.New(errdefs.NotFound, "plugin %q not found", Shown(name))
	if !validName.MatchString(name) {
		return address{}, missing
	}
	for _, path := range places(f.Sockets, name, ".sock") {
		if st, err := os.Stat(path); err == nil && st.Mode()&fs.ModeSocket != 0 {
			return address{url: "http://plugin.moby.localhost", socket: path}, nil
		}
	}
	for _, dir := range f.Specs {
		for _, path := range append(places(dir, name, ".spec"), places(dir, name, ".json")...) {
			a, err := readSpec(path)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoFile) {
				continue
			}
			if err != nil {
				return a, errdefs.New(errdefs.Internal, "legacy plugin: %s: %w", path, err)
			}
			return a, nil
		}
	}
	return address{}, missing
}

func places(dir, name, kind string) []string {
	return []string{filepath.Join(dir, name+kind), filepath.Join(dir, name, name+kind)}
}

var errNoFile = errors.New("not a file")

// maxSpec bounds a file that tells of a plugin.
const maxSpec = 64 << 10

// readSpec reads an address from a .spec or .json file.
func readSpec(path string) (address, error) {
	st, err := os.Stat(path)
	if err != nil {
		return address{}, err
	}
	if !st.Mode().IsRegular() {
		return address{}, errNoFile
	}
	file, err := os.Open(path)
	if err != nil {
		return address{}, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxSpec+1))
	if err != nil {
		return address{}, err
	}
	if len(b) > maxSpec {
		return address{}, fmt.Errorf("it has more than %d bytes", maxSpec)
	}
	if filepath.Ext(path) != ".json" {
		return parseAddress(strings.TrimSpace(string(b)), tlsFiles{})
	}
	var spec struct {
		Addr      string
		TLSConfig *tlsFiles
	}
	if err := json.Unmarshal(b, &spec); err != nil {
		return address{}, err
	}
	if spec.TLSConfig == nil {
		return parseAddress(spec.Addr, tlsFiles{})
	}
	spec.TLSConfig.given = true
	return parseAddress(spec.Addr, *spec.TLSConfig)
}

// parseAddress reads a plugin's address: unix:///path, tcp://host:port, which is HTTPS if
// there is a TLSConfig, http:// and https://.
func parseAddress(text string, t tlsFiles) (address, error) {
	u, err := url.Parse(text)
	if err != nil {
		return address{}, err
	}
	scheme := "http"
	if t.given {
		scheme = "https"
	}
	switch u.Scheme {
	case "unix":
		if !filepath.IsAbs(u.Path) || u.Host != "" {
			return address{}, fmt.Errorf("%q has no absolute path of a socket", text)
		}
		return address{url: scheme + "://plugin.moby.localhost", socket: u.Path, tls: t}, nil
	case "tcp":
	case "http", "https":
		scheme = u.Scheme
	default:
		//lint:ignore ST1005 Docker's text
		return address{}, errors.New("Unknown protocol")
	}
	if u.Host == "" {
		return address{}, fmt.Errorf("%q has no host", text)
	}
	return address{url: scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/"), tls: t}, nil
}
