package registry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/distribution/reference"
)

// TestReplacedClientAsksByTheNewSettings, also who has the old one.
func TestReplacedClientAsksByTheNewSettings(t *testing.T) {
	var asked atomic.Int64
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	defer mirror.Close()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	defer site.Close()
	host := strings.TrimPrefix(site.URL, "http://")
	ref, err := reference.ParseNormalizedNamed(host + "/a:1")
	if err != nil {
		t.Fatal(err)
	}
	client := func(c Config) *Client {
		t.Helper()
		c.Attempts = 1
		made, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	c := client(Config{})
	defer c.Close()
	ask := func() {
		t.Helper()
		if _, err := c.Repository(ref, nil).Tags(t.Context()); err == nil {
			t.Error("there are tags")
		}
	}
	if ask(); asked.Load() != 0 {
		t.Error("the mirror was asked before it was named")
	}
	c.Replace(client(Config{Mirrors: map[string][]string{host: {mirror.URL}}}))
	if ask(); asked.Load() == 0 {
		t.Error("the mirror was not asked")
	}
	was := asked.Load()
	c.Replace(client(Config{}))
	if ask(); asked.Load() != was {
		t.Error("the mirror was asked after it was taken away")
	}
}
