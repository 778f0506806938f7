package client

import (
	"context"
	"net/http"
	"strings"

	"github.com/tare-engine/tare/api"
)

// downgrade looks at a refusal and reports whether the request is worth
// another try in an older API version, which it sets. Engines name their
// newest version in the Api-Version header of every answer, refusals included.
func (c *Client) downgrade(h http.Header, err error) bool {
	if StatusOf(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "is too new") {
		return false
	}
	return c.adopt(h.Get("Api-Version"))
}

// adopt changes to an engine's version if it is older than ours and one that
// we speak.
func (c *Client) adopt(theirs string) bool {
	v, ok := api.ParseVersion(theirs)
	if c.fixed || !ok || !v.Less(c.Version()) || v.Less(api.MinVersion) {
		return false
	}
	c.version.Store(&v)
	return true
}

// negotiate asks the engine for its version. Only requests that cannot be
// repeated need it.
func (c *Client) negotiate(ctx context.Context) error {
	if c.fixed {
		return nil
	}
	_, err := c.Ping(ctx)
	return err
}
