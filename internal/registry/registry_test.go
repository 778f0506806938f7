package registry

import (
	"io"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// newClient makes a client that loses patience in a fraction of a second.
func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.Stall == 0 {
		cfg.Stall = 10 * time.Second
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = time.Millisecond
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func named(t *testing.T, s string) reference.Named {
	t.Helper()
	n, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPull(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts registrytest.Options
		cred *Credentials
	}{
		{"plain", registrytest.Options{}, nil},
		{"TLS", registrytest.Options{TLS: true}, nil},
		{"basic", registrytest.Options{TLS: true, Auth: registrytest.Basic}, &Credentials{Username: registrytest.Username, Password: registrytest.Password}},
		{"token", registrytest.Options{TLS: true, Auth: registrytest.Token}, &Credentials{Username: registrytest.Username, Password: registrytest.Password}},
		{"anonymous", registrytest.Options{TLS: true, Auth: registrytest.Token, Anonymous: true}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := registrytest.New(t, tc.opts)
			put := r.Put("team/app", "v1", registrytest.Image{Layers: 2, Index: true})
			c := newClient(t, Config{})
			repo := c.Repository(named(t, r.Host+"/team/app"), tc.cred)
			d, err := repo.Resolve(t.Context(), "v1")
			if err != nil || d.Digest != put.Top.Digest || d.MediaType != put.Top.MediaType || d.Size != put.Top.Size {
				t.Fatalf("%+v, %v", d, err)
			}
			b, err := repo.Manifest(t.Context(), d)
			if err != nil || digest.FromBytes(b) != d.Digest {
				t.Fatal(err)
			}
			for _, l := range put.Layers {
				rc, err := repo.Blob(t.Context(), l, 0)
				if err != nil {
					t.Fatal(err)
				}
				got, err := digest.FromReader(rc)
				if err != nil || got != l.Digest {
					t.Fatal(got, err)
				}
				rc.Close()
			}
			rc, err := repo.Blob(t.Context(), put.Layers[0], 100)
			if err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(rc)
			if err != nil || int64(len(rest)) != put.Layers[0].Size-100 {
				t.Fatal(len(rest), err)
			}
			rc.Close()
		})
	}
}
