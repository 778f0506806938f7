package engine

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/event"
	records "github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/store"
)

// view makes a container that runs, or whatever change makes of it.
func view(name string, change func(v *own.View)) *own.View {
	v := &own.View{Record: &own.Record{
		ID: strings.Repeat(name, 64)[:64], Name: name, Created: time.Unix(1000, 0),
		Config: &container.Config{Labels: map[string]string{"l": "1"}}, HostConfig: &container.HostConfig{NetworkMode: "bridge"},
	}, Status: own.Running}
	if change != nil {
		change(v)
	}
	return v
}

// filters reads "key=value key=value".
func filters(text string) api.Filters {
	f := api.Filters{}
	for _, pair := range strings.Fields(text) {
		key, value, _ := strings.Cut(pair, "=")
		f.Add(key, value)
	}
	return f
}

func TestContainerFilters(t *testing.T) {
	udp := network.MustParsePort("53/udp")
	list := []*own.View{
		view("a", nil),
		view("b", func(v *own.View) { v.Status, v.Last.ExitCode, v.Config.Labels = own.Exited, 3, nil }),
		view("c", func(v *own.View) { v.Status, v.Health = own.Paused, container.Healthy }),
		view("d", func(v *own.View) {
			v.HostConfig.NetworkMode, v.HostConfig.Binds = "host", []string{"/host:/data"}
		}),
		view("e", func(v *own.View) {
			v.Config.ExposedPorts = network.PortSet{udp: {}}
			v.Network = &own.Networking{Records: []records.Record{{Link: "tv1"}}, Ports: network.PortMap{network.MustParsePort("80/tcp"): {{HostIP: netip.IPv4Unspecified(), HostPort: "8080"}}}}
		}),
	}
	e := &Engine{containers: own.New(own.Config{}, nil, nil, nil, event.NewLog(), store.New(), nil)}
	for _, c := range []struct {
		filters string
		want    string // names of those that match
		all     bool
		failed  string
	}{
		{filters: "", want: "abcde"},
		{filters: "status=exited", want: "b", all: true},
		{filters: "status=exited status=paused", want: "bc", all: true},
		{filters: "status=nope", failed: "invalid filter 'status=nope'"},
		{filters: "exited=3", want: "b", all: true},
		{filters: "exited=0", all: true},
		{filters: "exited=x", failed: "invalid filter 'exited=x'"},
		{filters: "health=healthy", want: "c"},
		{filters: "health=none", want: "abde"},
		{filters: "health=ill", failed: "invalid filter 'health=ill'"},
		{filters: "label=l", want: "acde"},
		{filters: "label=l=2"},
		{filters: "name=^/?[ab]$", want: "ab"},
		{filters: "id=aaaa", want: "a"},
		{filters: "network=host", want: "d"},
		{filters: "volume=/data", want: "d"},
		{filters: "publish=80"},
		{filters: "publish=8080", want: "e"},
		{filters: "publish=9 expose=80", want: "e"},
		{filters: "publish=53/udp"},
		{filters: "expose=53/udp", want: "e"},
		{filters: "expose=50-60/udp", want: "e"},
		{filters: "expose=60-50", failed: "invalid filter 'expose=60-50'"},
		{filters: "is-task=true"},
		{filters: "label=l health=healthy", want: "c"},
		{filters: "nope=1", failed: "invalid filter 'nope'"},
	} {
		match, all, err := e.containerFilter(context.Background(), filters(c.filters))
		if c.failed != "" {
			if err == nil || !strings.Contains(err.Error(), c.failed) || !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Errorf("%s: %v", c.filters, err)
			}
			continue
		}
		if err != nil || all != c.all {
			t.Errorf("%s: all %v, %v", c.filters, all, err)
			continue
		}
		got := ""
		for _, v := range list {
			if match(v) {
				got += v.Name
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.filters, got, c.want)
		}
	}
}

func TestStatusText(t *testing.T) {
	now := time.Unix(10000, 0)
	for want, change := range map[string]func(v *own.View){
		"Up 5 minutes":                    func(v *own.View) {},
		"Up 5 minutes (health: starting)": func(v *own.View) { v.Health = container.Starting },
		"Up 5 minutes (unhealthy)":        func(v *own.View) { v.Health = container.Unhealthy },
		"Up 5 minutes (Paused)":           func(v *own.View) { v.Status, v.Health = own.Paused, container.Healthy },
		"Exited (7) 2 minutes ago":        func(v *own.View) { v.Status = own.Exited },
		"Restarting (7) 2 minutes ago":    func(v *own.View) { v.Status = own.Restarting },
		"Created":                         func(v *own.View) { v.Status = own.Created },
	} {
		v := view("a", change)
		v.Started, v.Last.ExitCode, v.Last.FinishedAt = now.Add(-5*time.Minute), 7, now.Add(-2*time.Minute)
		if got := statusText(v, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPruneFilter(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	labels := map[string]string{"keep": "yes"}
	for _, c := range []struct {
		filters string
		want    bool
		failed  string
	}{
		{filters: "", want: true},
		{filters: "until=30m", want: true},
		{filters: "until=2h"},
		{filters: "label=keep", want: true},
		{filters: "label=keep=no"},
		{filters: "label!=keep"},
		{filters: "label!=other", want: true},
		{filters: "until=1h until=2h", failed: "more than one until filter specified"},
		{filters: "status=exited", failed: "invalid filter 'status'"},
	} {
		f := filters(c.filters)
		if key, value, ok := strings.Cut(c.filters, "!="); ok {
			f = filters("")
			f.Add(key+"!", value)
		}
		match, err := pruneFilter(f, api.ContainerPruneFilters)
		if c.failed != "" {
			if err == nil || !strings.Contains(err.Error(), c.failed) || !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Errorf("%s: %v", c.filters, err)
			}
			continue
		}
		if err != nil || match(old, labels) != c.want {
			t.Errorf("%s: want %v, %v", c.filters, c.want, err)
		}
	}
}
