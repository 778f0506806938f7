package main

import (
	"context"
	"net"
	"os"
	"strings"

	"github.com/tare-engine/tare/client"
)

// program is the name in usage lines and error texts.
const program = "tare"

// version of the build, set by the linker.
var version, commit, built = "0.1.0-dev", "", ""

// cli is what commands share: the terminal, the global flags, and the engine
// they lead to.
type cli struct {
	in         *os.File
	out, err   *os.File
	global     globalFlags
	tree       []command // all commands there are
	completing bool      // a shell asks what may come next

	config *configFile    // nil until it is read
	client *client.Client // nil until something asks the engine
}

// connect returns the client of the engine that flags, environment and
// contexts name. It does not dial.
func (c *cli) connect() (*client.Client, error) {
	if c.client != nil {
		return c.client, nil
	}
	config, err := c.settings()
	if err != nil {
		return nil, err
	}
	e, err := c.endpoint(config)
	if err != nil {
		return nil, notInitialized(err.Error())
	}
	c.client, err = newClient(e, config)
	return c.client, err
}

// connectTo returns a client of another engine, which the caller closes: dest is
// what -H takes, or the name of a context. It does not dial.
func (c *cli) connectTo(dest string) (*client.Client, error) {
	config, err := c.settings()
	if err != nil {
		return nil, err
	}
	e, err := c.endpointOf(config, dest)
	if err != nil {
		return nil, err
	}
	return newClient(e, config)
}

func newClient(e endpoint, config *configFile) (_ *client.Client, err error) {
	var dial func(context.Context) (net.Conn, error)
	if strings.HasPrefix(e.host, "ssh://") {
		if dial, err = sshDialer(e.host); err != nil {
			return nil, notInitialized(err.Error())
		}
	}
	header, err := config.header()
	if err != nil {
		return nil, notInitialized(err.Error())
	}
	cl, err := client.New(client.Options{
		Dial:      dial,
		Host:      e.host,
		TLS:       e.tls,
		Version:   os.Getenv("DOCKER_API_VERSION"),
		UserAgent: "Tare-Client/" + version + " (linux)",
		Header:    header,
	})
	if err != nil {
		return nil, notInitialized(err.Error())
	}
	return cl, nil
}

// notInitialized is the end of a command that cannot tell where its engine is.
func notInitialized(why string) error {
	return &exitError{1, "Failed to initialize: unable to resolve " + program + " endpoint: " + why}
}

// settings reads the configuration file once.
func (c *cli) settings() (*configFile, error) {
	if c.config == nil {
		config, err := readConfig(c.global.config)
		if err != nil {
			return nil, err
		}
		c.config = config
	}
	return c.config, nil
}
