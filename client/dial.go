package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Ports that dockerd's clients assume for tcp hosts.
const (
	plainPort = "2375"
	tlsPort   = "2376"
)

// dialTimeout bounds the way to an engine, not its answer.
const dialTimeout = 30 * time.Second

// parseHost splits the host into what is dialed and what is asked for.
func (c *Client) parseHost() error {
	scheme, rest, ok := strings.Cut(c.host, "://")
	if !ok {
		return fmt.Errorf("unable to parse docker host `%s`", c.host)
	}
	switch scheme {
	case "unix":
		if rest == "" {
			return fmt.Errorf("unable to parse docker host `%s`: no socket path", c.host)
		}
		// The name in the Host header of a socket means nothing; engines that
		// check it against rebinding know this one.
		c.network, c.address, c.authority = "unix", rest, "api.moby.localhost"
	case "tcp", "http", "https":
		u, err := url.Parse("tcp://" + rest)
		if err != nil || u.Host == "" {
			return fmt.Errorf("unable to parse docker host `%s`", c.host)
		}
		if scheme == "https" && c.tls == nil {
			c.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		c.network, c.address, c.authority = "tcp", withPort(u.Host, c.tls != nil), u.Host
		c.base = strings.TrimSuffix(u.EscapedPath(), "/")
	case "ssh":
		if c.dialer == nil {
			return fmt.Errorf("invalid bind address format: %s: Options.Dial is needed", c.host)
		}
		c.authority = "api.moby.localhost"
	default:
		return fmt.Errorf("invalid bind address format: %s", c.host)
	}
	return nil
}

func withPort(host string, secure bool) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := plainPort
	if secure {
		port = tlsPort
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// Dial opens a connection to the engine for a caller that speaks HTTP itself.
func (c *Client) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, c.wrap(ctx, err)
	}
	return conn, nil
}

// dial opens a connection to the engine, with TLS where asked for.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	if c.dialer != nil {
		return c.dialer(ctx)
	}
	d := net.Dialer{Timeout: dialTimeout}
	if c.tls == nil || c.network == "unix" {
		return d.DialContext(ctx, c.network, c.address)
	}
	config := c.tls.Clone()
	if config.ServerName == "" && !config.InsecureSkipVerify {
		config.ServerName, _, _ = net.SplitHostPort(c.address)
	}
	return (&tls.Dialer{NetDialer: &d, Config: config}).DialContext(ctx, c.network, c.address)
}
