package registry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHostsOnLoopbackMaySpeakPlainHTTP asks a registry without TLS as builds do.
func TestHostsOnLoopbackMaySpeakPlainHTTP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer s.Close()
	c, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := c.Hosts(strings.TrimPrefix(s.URL, "http://"))
	if err != nil || len(hosts) != 1 {
		t.Fatal(hosts, err)
	}
	resp, err := hosts[0].Client.Get(hosts[0].Scheme + "://" + hosts[0].Host + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Error(resp.Status)
	}

	// Another host is asked over TLS all the same.
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was asked without TLS") }))
	defer other.Close()
	if resp, err := hosts[0].Client.Get(strings.Replace(other.URL, "http:", "https:", 1) + "/v2/"); err == nil {
		resp.Body.Close()
		t.Error("another host answered", resp.Status)
	}
}
