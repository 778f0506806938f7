package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sockets tried, in this order, when nothing says where the engine is.
const (
	tareSocket   = "/run/tare/tared.sock"
	dockerSocket = "/var/run/docker.sock"
)

// defaultContext is the context that stands for flags and environment.
const defaultContext = "default"

// endpoint is where an engine listens.
type endpoint struct {
	host string
	tls  *tls.Config
}

// endpoint decides which engine is meant. The first that says something wins:
// -H or --context, TARE_HOST, DOCKER_HOST, DOCKER_CONTEXT, the context chosen
// by "context use", the socket of tared, that of dockerd.
func (c *cli) endpoint(config *configFile) (endpoint, error) {
	return c.contextEndpoint(config, c.contextName(config))
}

// endpointOf is another engine than the one in use: an address or a context.
func (c *cli) endpointOf(config *configFile, dest string) (endpoint, error) {
	if strings.Contains(dest, ":") {
		return c.hostEndpoint(completeHost(dest))
	}
	e, err := c.contextEndpoint(config, dest)
	if err != nil {
		err = fmt.Errorf("%w; an address has a scheme, such as ssh://%[2]s, a file is file:%[2]s", err, dest)
	}
	return e, err
}

func (c *cli) contextEndpoint(config *configFile, name string) (endpoint, error) {
	if name == defaultContext {
		return c.hostEndpoint(c.hostName())
	}
	ctx, err := config.context(name)
	if err != nil {
		return endpoint{}, err
	}
	return ctx.endpoint(config.dir)
}

func (c *cli) hostEndpoint(host string) (endpoint, error) {
	tlsConfig, err := c.flagTLS(host)
	return endpoint{host: host, tls: tlsConfig}, err
}

// contextName is the name of the context in use, "default" for none.
func (c *cli) contextName(config *configFile) string {
	switch {
	case c.global.context != "":
		return c.global.context
	case len(c.global.hosts) > 0, os.Getenv("TARE_HOST") != "", os.Getenv("DOCKER_HOST") != "":
		return defaultContext
	case os.Getenv("DOCKER_CONTEXT") != "":
		return os.Getenv("DOCKER_CONTEXT")
	case config.CurrentContext != "":
		return config.CurrentContext
	}
	return defaultContext
}

// hostName is the address of the default context.
func (c *cli) hostName() string {
	switch {
	case len(c.global.hosts) > 0:
		return completeHost(c.global.hosts[0])
	case os.Getenv("TARE_HOST") != "":
		return completeHost(os.Getenv("TARE_HOST"))
	case os.Getenv("DOCKER_HOST") != "":
		return completeHost(os.Getenv("DOCKER_HOST"))
	}
	if _, err := os.Stat(tareSocket); err != nil {
		if _, err := os.Stat(dockerSocket); err == nil {
			return "unix://" + dockerSocket
		}
	}
	return "unix://" + tareSocket
}

// completeHost adds what people leave out: "host:2375" is tcp, a path is a
// socket.
func completeHost(host string) string {
	host = strings.TrimSpace(host)
	switch {
	case strings.Contains(host, "://"):
		return host
	case strings.HasPrefix(host, "/"):
		return "unix://" + host
	}
	return "tcp://" + host
}

// flagTLS is the TLS that flags ask for; sockets never use it.
func (c *cli) flagTLS(host string) (*tls.Config, error) {
	g := &c.global
	verify := g.tlsVerify
	if !g.tls && !verify && (g.changed == nil || !g.changed("tlsverify")) || !takesTLS(host) {
		return nil, nil
	}
	files := tlsFiles{verify: verify}
	// A file that was not named need not be there.
	for flag, to := range map[string]*string{"tlscacert": &files.ca, "tlscert": &files.cert, "tlskey": &files.key} {
		path := map[string]string{"tlscacert": g.caCert, "tlscert": g.cert, "tlskey": g.key}[flag]
		if _, err := os.Stat(path); err == nil || g.changed(flag) {
			*to = path
		}
	}
	return files.config()
}

func takesTLS(host string) bool {
	return !strings.HasPrefix(host, "unix://") && !strings.HasPrefix(host, "ssh://")
}

// tlsFiles are the PEM files of a TLS client; "" is none.
type tlsFiles struct {
	ca, cert, key string
	verify        bool
}

func (f tlsFiles) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !f.verify}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("could not read CA certificate: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", f.ca)
		}
	}
	if f.cert != "" || f.key != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("could not load X509 key pair: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// contextMeta is contexts/meta/DIGEST/meta.json of docker's command line.
type contextMeta struct {
	Name     string
	Metadata struct {
		Description string `json:",omitempty"`
	}
	Endpoints map[string]contextEndpoint
}

type contextEndpoint struct {
	Host          string `json:",omitempty"`
	SkipTLSVerify bool
}

// contextDir is the folder of a context: files are named by the digest of its
// name, so a name cannot lead anywhere else.
func contextDir(base, kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(base, "contexts", kind, hex.EncodeToString(sum[:]))
}

// context reads the context of a name.
func (c *configFile) context(name string) (*contextMeta, error) {
	path := filepath.Join(contextDir(c.dir, "meta", name), "meta.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("context %q: context not found: open %s: no such file or directory", name, path)
	}
	if err != nil {
		return nil, err
	}
	var m contextMeta
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("context %q: parsing %s: %w", name, path, err)
	}
	return &m, nil
}

// endpoint is the engine a context leads to, with the keys stored for it.
func (m *contextMeta) endpoint(base string) (endpoint, error) {
	e, ok := m.Endpoints["docker"]
	if !ok || e.Host == "" {
		return endpoint{}, fmt.Errorf("context %q has no engine endpoint", m.Name)
	}
	out := endpoint{host: e.Host}
	files := tlsFiles{verify: !e.SkipTLSVerify}
	stored := false
	dir := filepath.Join(contextDir(base, "tls", m.Name), "docker")
	for name, to := range map[string]*string{"ca.pem": &files.ca, "cert.pem": &files.cert, "key.pem": &files.key} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			*to, stored = filepath.Join(dir, name), true
		}
	}
	if (!stored && !e.SkipTLSVerify) || !takesTLS(e.Host) {
		return out, nil
	}
	var err error
	out.tls, err = files.config()
	return out, err
}
