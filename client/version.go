package client

import (
	"context"
	"net/http"
	"strings"

	"github.com/tare-engine/tare/api"
)

// downgrade looks at the refusal of a request made in a version and reports
// whether it is worth another try in an older one, which is set. Engines name
// their newest version in the Api-Version header of every answer.
func (c *Client) downgrade(asked api.Version, h http.Header, err error) bool {
	if StatusOf(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "is too new") {
		return false
	}
	c.adopt(h.Get("Api-Version"))
	return c.Version().Less(asked) // another request may have set it meanwhile
}

// adopt changes to an engine's version if it is older than ours and one that
// we speak.
func (c *Client) adopt(theirs string) {
	v, ok := api.ParseVersion(theirs)
	if !c.fixed && ok && v.Less(c.Version()) && !v.Less(api.MinVersion) {
		c.version.Store(&v)
	}
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
