package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endpoints are the listeners of the engine.
type endpoints struct {
	listeners []net.Listener
	certs     certificates
	hosts     []string // of the tcp addresses
}

// names are the host names by which clients may call the engine over tcp.
func (e *endpoints) names() []string { return append(e.certs.names(), e.hosts...) }

// listen opens the listeners that the configuration names, all or none.
func listen(c *Config) (_ *endpoints, err error) {
	e := &endpoints{}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if c.TLSCert != "" {
		if err := e.certs.load(c); err != nil {
			return nil, err
		}
	}
	for _, host := range c.Hosts {
		if err := e.add(c, host); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", host, err)
		}
	}
	return e, nil
}

// reload takes new certificates into use, if there are any.
func (e *endpoints) reload(c *Config) error {
	if c.TLSCert == "" {
		return nil
	}
	return e.certs.load(c)
}

func (e *endpoints) close() {
	for _, l := range e.listeners {
		_ = l.Close()
	}
}

func (e *endpoints) add(c *Config, host string) error {
	scheme, addr, err := splitHost(host)
	if err != nil {
		return err
	}
	switch scheme {
	case "unix":
		l, err := listenUnix(addr, c)
		if err != nil {
			return err
		}
		e.listeners = append(e.listeners, l)
		return nil
	case "fd":
		list, err := systemdListeners(addr)
		if err != nil {
			return err
		}
		for _, l := range list {
			if err := e.addSystemd(c, l); err != nil {
				return err
			}
		}
		return nil
	}
	return e.addTCP(c, addr)
}

func (e *endpoints) addTCP(c *Config, addr string) error {
	l, err := net.Listen("tcp", tcpAddr(addr, c.TLSCert != ""))
	if err != nil {
		return err
	}
	if host, _, err := net.SplitHostPort(addr); err == nil && host != "" {
		e.hosts = append(e.hosts, strings.ToLower(host))
	}
	e.listeners = append(e.listeners, e.secure(c, l))
	return nil
}

// addSystemd holds systemd's sockets to the rules of our own.
func (e *endpoints) addSystemd(c *Config, l net.Listener) error {
	if l.Addr().Network() != "unix" {
		if !c.TLSVerify && !c.InsecureTCP {
			_ = l.Close()
			return fmt.Errorf("socket %s of systemd: %w", l.Addr(), errInsecureTCP)
		}
		l = e.secure(c, l)
	} else if err := letGroupPass(c, l.Addr().String()); err != nil {
		_ = l.Close()
		return err
	}
	e.listeners = append(e.listeners, l)
	return nil
}

func (e *endpoints) secure(c *Config, l net.Listener) net.Listener {
	if c.TLSCert == "" {
		return l
	}
	return tls.NewListener(l, e.certs.config())
}

// splitHost takes an address of --host apart and says what is wrong with it.
func splitHost(host string) (scheme, addr string, err error) {
	scheme, addr, ok := strings.Cut(host, "://")
	switch {
	case !ok:
		return "", "", errors.New("want unix://PATH, tcp://HOST:PORT or fd://")
	case scheme == "unix":
		if err := checkPath(addr); err != nil {
			return "", "", err
		}
		if len(addr) > 107 {
			return "", "", errors.New("a socket's path may have 107 bytes at most")
		}
	case scheme == "tcp":
		if err := checkTCP(addr); err != nil {
			return "", "", err
		}
	case scheme != "fd":
		return "", "", fmt.Errorf("unknown scheme %q: want unix, tcp or fd", scheme)
	}
	return scheme, addr, nil
}

func checkTCP(addr string) error {
	_, port, err := net.SplitHostPort(tcpAddr(addr, false))
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is no number up to 65535", port)
	}
	return nil
}

// tcpAddr adds what an address may leave out: Docker's ports, and the loopback
// interface.
func tcpAddr(addr string, secure bool) string {
	port := "2375"
	if secure {
		port = "2376"
	}
	host, p, err := net.SplitHostPort(addr)
	if err != nil && strings.HasSuffix(err.Error(), "missing port in address") {
		host, p = strings.Trim(addr, "[]"), ""
	} else if err != nil {
		return addr
	}
	if host == "" && p == "" {
		host = "127.0.0.1"
	}
	if p == "" {
		p = port
	}
	return net.JoinHostPort(host, p)
}

// listenUnix opens a unix socket for root and the group of c.
func listenUnix(path string, c *Config) (_ net.Listener, err error) {
	gid, err := groupID(c.Group)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := bindPrivate(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = l.Close()
		}
	}()
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 0, gid); err != nil {
			return nil, err
		}
		if err := letGroupPass(c, path); err != nil {
			return nil, err
		}
	}
	return l, os.Chmod(path, 0o660)
}

// letGroupPass lets the group of a socket in our own directory walk through
// that directory, and not look around.
func letGroupPass(c *Config, path string) error {
	if filepath.Dir(path) != c.ExecRoot || os.Geteuid() != 0 {
		return nil
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Chown(c.ExecRoot, 0, int(st.Sys().(*syscall.Stat_t).Gid))
}

// bindPrivate makes a socket that only its owner can use: nobody else may
// connect before it belongs to the right group. The kernel gives the socket's
// file the mode of the socket, so there is no need for umask, which would hit
// the files that other threads make just then.
func bindPrivate(path string) (net.Listener, error) {
	var conf net.ListenConfig
	conf.Control = func(_, _ string, c syscall.RawConn) (err error) {
		if cerr := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); cerr != nil {
			return cerr
		}
		return err
	}
	return conf.Listen(context.Background(), "unix", path)
}

// removeStale removes the socket of an engine that was killed, and refuses to
// touch one that answers, or anything else.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is no socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return errors.New("another process listens on it")
	}
	return os.Remove(path)
}

// groupID finds a group by name or number. The default one is root's group
// where the host does not have it.
func groupID(group string) (int, error) {
	if n, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(group)
	switch {
	case err == nil:
		return strconv.Atoi(g.Gid)
	case group == defaultGroup || group == "":
		return 0, nil
	}
	return 0, fmt.Errorf("group %q: %w", group, err)
}
