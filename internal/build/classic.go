package build

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/types"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// Order is a build as the API had it before BuildKit: the context comes with the
// request, the answer is a stream of text.
type Order struct {
	Attrs       map[string]string // for the Dockerfile's frontend
	Remote      string            // URL of the context; "": it comes with the request
	Names       []reference.NamedTagged
	CacheFrom   []string
	HostNetwork bool
	Quiet       bool
	Auths       map[string]registry.AuthConfig // by registry
	ID          string                         // for Cancel; "": none
}

// Classic builds from a context that is a tar archive, packed or not, and returns the
// image's ID. It says through out how it gets on, as Docker's first builder did.
func (s *Service) Classic(ctx context.Context, o Order, archive io.Reader, out func(jsonstream.Message)) (string, error) {
	ctx, c, err := s.begin(ctx, o.ID)
	if err != nil {
		return "", err
	}
	defer c.end()
	plain := recognizable(archive)
	defer plain.Close()
	solve := o.solveOpt(plain)
	status := make(chan *bkclient.SolveStatus)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		t := teller{out: out, quiet: o.Quiet, told: map[string]bool{}}
		for st := range status {
			t.tell(st)
		}
	}()
	var resp *bkclient.SolveResponse
	if o.Remote == "" {
		resp, err = c.Build(ctx, solve, "tare", archived{solve.Frontend, solve.FrontendAttrs}.build, status)
	} else {
		resp, err = c.Solve(ctx, nil, solve, status)
	}
	<-shown
	if err != nil {
		return "", failure(ctx, err)
	}
	return resp.ExporterResponse[exptypes.ExporterImageConfigDigestKey], nil
}

// underway is a build that has begun for a request of the API.
type underway struct {
	*bkclient.Client
	b   *builder
	end func()
}

// begin makes a build of that ID, "" for none, one that Cancel ends. It is over with end.
func (s *Service) begin(ctx context.Context, id string) (context.Context, *underway, error) {
	b, err := s.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	c, err := b.client(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	leave := func() {}
	if id != "" {
		leave = s.orders.enter(id, cancel)
	}
	return ctx, &underway{c, b, func() {
		c.Close()
		leave()
		cancel()
	}}, nil
}

// recognizable is an archive that BuildKit knows as one. It looks at the first kilobyte and
// takes for a Dockerfile what has no whole header in it, as a tar whose first entry has an
// extended header (PAX, GNU). Packed, it is told by its first bytes. To be closed.
func recognizable(archive io.Reader) io.ReadCloser {
	const header, magic, typeflag = 512, 257, 156
	r := bufio.NewReaderSize(archive, 64<<10)
	h, _ := r.Peek(header)
	if len(h) < header || !bytes.HasPrefix(h[magic:], []byte("ustar")) || !strings.ContainsRune("xgLK", rune(h[typeflag])) {
		return io.NopCloser(r)
	}
	packed, w := io.Pipe()
	go func() {
		z, _ := gzip.NewWriterLevel(w, gzip.NoCompression) // there is such a level
		_, err := io.Copy(z, r)
		w.CloseWithError(errors.Join(err, z.Close()))
	}()
	return packed
}

// failure words the error of a build as Docker's first builder did. It is the
// Dockerfile's or the context's: the client's.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var exit *gatewayapi.ExitError
	if errors.As(err, &exit) {
		command, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "failed to solve: process \""), "\" did not complete")
		return &StepError{Text: fmt.Sprintf("The command '%s' returned a non-zero code: %d", command, exit.ExitCode), Code: int(exit.ExitCode)}
	}
	return errdefs.New(errdefs.InvalidArgument, "%s", strings.TrimPrefix(err.Error(), "failed to solve: "))
}

// StepError is a program of a step that failed.
type StepError struct {
	Text string
	Code int
}

func (e *StepError) Error() string { return e.Text }

func (o *Order) solveOpt(archive io.ReadCloser) bkclient.SolveOpt {
	var names []string
	for _, n := range o.Names {
		names = append(names, n.String())
	}
	up := uploadprovider.New()
	s := bkclient.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: o.Attrs,
		Exports: []bkclient.ExportEntry{{Type: exporterMoby, Attrs: map[string]string{"name": strings.Join(names, ",")}}},
	}
	if o.Remote != "" {
		s.FrontendAttrs["context"] = o.Remote
	} else {
		s.FrontendAttrs["context"] = up.Add(archive)
		s.Session = append(s.Session, up)
	}
	if o.HostNetwork {
		s.AllowedEntitlements = []string{"network.host"}
	}
	for _, ref := range o.CacheFrom {
		s.CacheImports = append(s.CacheImports, bkclient.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	s.Session = append(s.Session, providing(o.Auths))
	return s
}

// providing gives credentials to builds, by registry.
func providing(auths map[string]registry.AuthConfig) session.Attachable {
	creds := func(_ context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
		if host == "registry-1.docker.io" {
			host = "https://index.docker.io/v1/"
		}
		a := auths[host]
		return types.AuthConfig{
			Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
		}, nil
	}
	return authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{AuthConfigProvider: creds})
}

// client is a client of our own server, for who does not speak BuildKit's API.
func (b *builder) client(ctx context.Context) (*bkclient.Client, error) {
	return bkclient.New(ctx, "",
		bkclient.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go b.conns.put(theirs)
			return ours, nil
		}),
		bkclient.WithSessionDialer(b.dialSession))
}

// teller words the progress of a build as Docker's first builder did.
type teller struct {
	out   func(jsonstream.Message)
	quiet bool
	told  map[string]bool // steps, by digest
}

func (t *teller) say(text string) {
	if !t.quiet {
		t.out(jsonstream.Message{Stream: text})
	}
}

func (t *teller) tell(st *bkclient.SolveStatus) {
	for _, v := range st.Vertexes {
		id := v.Digest.String()
		if step, what, ok := stepOf(v.Name); ok && v.Started != nil && !t.told[id] {
			t.told[id] = true
			t.say("Step " + step + " : " + what + "\n")
			if v.Cached {
				t.say(" ---> Using cache\n")
			} else if strings.HasPrefix(what, "RUN") {
				t.say(" ---> Running in " + ident.Short(v.Digest.Encoded()) + "\n")
			}
		}
	}
	for _, l := range st.Logs {
		const stderr = 2
		if text := string(l.Data); l.Stream == stderr {
			t.say("\x1b[91m" + text + "\x1b[0m")
		} else {
			t.say(text)
		}
	}
}

// stepOf reads the name of a step of a Dockerfile: "[stage 2/3] RUN x".
func stepOf(name string) (step, what string, ok bool) {
	in, what, ok := strings.Cut(strings.TrimPrefix(name, "["), "] ")
	if !ok || !strings.HasPrefix(name, "[") {
		return "", "", false
	}
	fields := strings.Fields(in)
	if len(fields) == 0 {
		return "", "", false
	}
	step = fields[len(fields)-1]
	return step, what, strings.Contains(step, "/") && !strings.HasPrefix(in, "internal")
}

// orders are the builds under way that can be cancelled, by the ids of their clients.
type orders struct {
	mu sync.Mutex
	// +checklocks:mu
	all map[string][]*context.CancelFunc
}

// enter notes a build until the function that it returns is called.
func (o *orders) enter(id string, cancel context.CancelFunc) (leave func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = map[string][]*context.CancelFunc{}
	}
	own := &cancel
	o.all[id] = append(o.all[id], own)
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.all[id] = slices.DeleteFunc(o.all[id], func(c *context.CancelFunc) bool { return c == own })
		if len(o.all[id]) == 0 {
			delete(o.all, id)
		}
	}
}

// Cancel ends the classic builds with an id. That there are none is no error, as with
// Docker: the build may have ended by itself.
func (s *Service) Cancel(id string) error {
	s.orders.mu.Lock()
	defer s.orders.mu.Unlock()
	for _, cancel := range s.orders.all[id] {
		(*cancel)()
	}
	return nil
}
