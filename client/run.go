package client

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/tare-engine/tare/api"
)

// ErrNoRun says that an engine does not know the one-request run: the caller
// makes Docker's four requests instead.
var ErrNoRun = errors.New("the engine has no " + api.RunPath)

// Run makes, attaches and starts a container in one request. An error before the container exists is the engine's; ErrNoRun
// means that nothing was done.
//
// The stream's input is the container's; its output is read by RunOutput.
func (c *Client) Run(ctx context.Context, req api.RunRequest) (*Stream, error) {
	s, err := c.hijack(ctx, call{method: http.MethodPost, path: api.RunPath, body: req})
	if noRoute(err) {
		return nil, ErrNoRun
	}
	return s, err
}

// RunOutput copies the output of a run until it ends and reports each status
// document as it comes.
func (s *Stream) RunOutput(stdout, stderr io.Writer, status func(api.RunStatus) error) error {
	return api.ReadRun(s.reader, stdout, stderr, status)
}
