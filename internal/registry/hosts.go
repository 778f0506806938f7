package registry

import (
	"context"
	"net/http"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// Hosts tells containerd's libraries where a registry is: mirrors first, each with a
// client that knows certificates, proxies and which may speak plain HTTP. Who
// authorizes is the caller's to say.
func (c *Client) Hosts(name string) ([]docker.RegistryHost, error) {
	sites, err := c.sitesOf(context.Background(), name)
	if err != nil {
		return nil, err
	}
	hosts := make([]docker.RegistryHost, 0, len(sites))
	for i, s := range sites {
		attempts := 1
		if i == len(sites)-1 {
			attempts = c.cfg.Attempts
		}
		h := s.host
		h.Client = &http.Client{Transport: &transport{s: s, home: s.host.Host, attempts: attempts}, CheckRedirect: s.redirect}
		hosts = append(hosts, h)
	}
	return hosts, nil
}
