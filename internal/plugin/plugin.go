// Package plugin talks to plugins of Docker's first kind: programs beside the engine,
// started by whoever likes, that answer requests by HTTP. They are told of by files:
//
//	/run/docker/plugins/NAME.sock           a socket where one answers
//	/etc/docker/plugins/NAME.spec           its address, such as tcp://host:8080
//	/usr/lib/docker/plugins/NAME.json       {"Addr": …, "TLSConfig": …}
//
// also as DIR/NAME/NAME.sock, .spec or .json. The first that is there counts.
//
//	p, err := finder.Get(ctx, "nas", "VolumeDriver") // a handshake, once
//	err = p.Call(ctx, "VolumeDriver.Mount", request, &answer)
//
// What a plugin answers is bounded in size and time and otherwise not trusted: the
// caller checks it. One that does not answer holds up its callers for as long as they
// allow, and nobody else.
package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Limits of what a plugin answers.
const (
	maxAnswer = 8 << 20 // a list of some ten thousand volumes
	maxError  = 2 << 10
	maxHeader = 64 << 10
)

// mimetype is the version of the protocol.
const mimetype = "application/vnd.docker.plugins.v1.2+json"

// Plugin is one that has answered the handshake. Safe for concurrent use.
type Plugin struct {
	Name string

	addr       address
	http       *http.Client
	implements []string
	quiet      atomic.Int64 // unix nanoseconds until which it is not expected to answer
}

// Implements reports whether it offers something.
func (p *Plugin) Implements(capability string) bool { return slices.Contains(p.implements, capability) }

// quietFor is how long a plugin that has not answered is left alone by those that can
// go on without it.
const quietFor = 30 * time.Second

// Quiet reports whether it has lately left somebody without an answer.
func (p *Plugin) Quiet() bool { return time.Now().UnixNano() < p.quiet.Load() }

// patience is for connections to a plugin that is being started anew: how long they are
// tried again.
const patience = 5 * time.Second

// Call has the plugin execute a method. What it answers goes into out, a pointer or nil.
// A plugin that cannot be reached or does not answer in time is Unavailable; an error
// that it answers is of the kind Internal, with Docker's text.
func (p *Plugin) Call(ctx context.Context, method string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, status, err := p.post(ctx, method, body)
	if err != nil && !errors.Is(err, context.Canceled) { // else the caller has left
		p.quiet.Store(time.Now().Add(quietFor).UnixNano())
	}
	if err != nil {
		return errdefs.New(errdefs.Unavailable, "plugin %s: %s: %w", p.Name, method, err)
	}
	p.quiet.Store(0)
	if status != http.StatusOK {
		return fmt.Errorf("%s: %s", method, complaint(answer, status))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("plugin %s: the answer to %s: %w", p.Name, method, err)
	}
	return nil
}

// complaint is what a plugin says of a failure.
func complaint(answer []byte, status int) string {
	var said struct{ Err string }
	text := strings.TrimSpace(string(answer))
	if json.Unmarshal(answer, &said) == nil && said.Err != "" {
		text = said.Err
	}
	if text == "" {
		text = fmt.Sprintf("%d %s", status, http.StatusText(status))
	}
	return Shown(text)
}

// Shown cuts a text of a plugin to a length that goes into an error.
func Shown(text string) string {
	if len(text) > maxError {
		text = text[:maxError] + "..."
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// post sends a request. One that has not reached the plugin, as nobody listened, is sent
// again for a while.
func (p *Plugin) post(ctx context.Context, method string, body []byte) (answer []byte, status int, err error) {
	pause := 50 * time.Millisecond
	for end := time.Now().Add(patience); ; pause *= 2 {
		answer, status, err = p.send(ctx, method, body)
		var dial *net.OpError
		if err == nil || !errors.As(err, &dial) || dial.Op != "dial" || time.Now().Add(pause).After(end) {
			return answer, status, err
		}
		select {
		case <-ctx.Done():
			return nil, 0, err
		case <-time.After(pause):
		}
	}
}

func (p *Plugin) send(ctx context.Context, method string, body []byte) (answer []byte, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.addr.url+"/"+method, strings.NewReader(string(body)))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", mimetype)
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	return answer, resp.StatusCode, err
}

// activate asks a plugin what it offers.
func (p *Plugin) activate(ctx context.Context) error {
	var manifest struct{ Implements []string }
	if err := p.Call(ctx, "Plugin.Activate", struct{}{}, &manifest); err != nil {
		return err
	}
	p.implements = manifest.Implements
	return nil
}

// newPlugin makes the client of a plugin, which has not been asked anything yet.
func newPlugin(name string, a address) (*Plugin, error) {
	t := &http.Transport{MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
		DisableKeepAlives: true} // a request that finds an old connection closed could not be sent again
	if a.socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", a.socket)
		}
	}
	var err error
	if t.TLSClientConfig, err = a.tls.config(); err != nil {
		return nil, err
	}
	c := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Plugin{Name: name, addr: a, http: c}, nil
}
