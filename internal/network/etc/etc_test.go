package etc

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHostsFile(t *testing.T) {
	extra, err := ParseExtraHosts([]string{"db:10.1.2.3", "six:[fd00::1]", "me:host-gateway", "bare:fd00::2"}, netip.MustParseAddr("172.17.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	got := string(HostsFile(Hosts{Hostname: "web", Domainname: "example.org", Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.2")}, Extra: extra}))
	want := "127.0.0.1\tlocalhost\n10.1.2.3\tdb\nfd00::1\tsix\n172.17.0.1\tme\nfd00::2\tbare\n172.17.0.2\tweb.example.org web\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if s := string(HostsFile(Hosts{IPv6: true})); !strings.Contains(s, "::1\tlocalhost ip6-localhost ip6-loopback\n") {
		t.Error(s)
	}
	for _, bad := range []string{"x", ":1.2.3.4", "x:1.2.3", "x:", "a b:1.2.3.4", "a\n1.1.1.1 b:1.2.3.4"} {
		if _, err := ParseExtraHosts([]string{bad}, netip.Addr{}); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestResolverFile(t *testing.T) {
	host := ParseResolver([]byte("# c\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver 2001:db8::1\nnameserver x\nsearch a b\nsearch c d\noptions ndots:2\n options trust-ad\n"))
	for _, c := range []struct {
		name string
		host Resolver
		own  Resolver
		ipv6 bool
		want string
	}{
		{"host", host, Resolver{}, false, "nameserver 10.0.0.1\nsearch c d\noptions ndots:2 trust-ad\n"},
		{"ipv6", host, Resolver{}, true, "nameserver 10.0.0.1\nnameserver 2001:db8::1\nsearch c d\noptions ndots:2 trust-ad\n"},
		{"only loopback", ParseResolver([]byte("nameserver ::1")), Resolver{}, false, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
		{"own", host, Resolver{Nameservers: []string{"1.1.1.1"}, Search: []string{"."}, Options: []string{"timeout:1"}}, false, "nameserver 1.1.1.1\noptions timeout:1\n"},
		{"own loopback", host, Resolver{Nameservers: []string{"127.0.0.1"}}, false, "nameserver 127.0.0.1\nsearch c d\noptions ndots:2 trust-ad\n"},
	} {
		if d := cmp.Diff(c.want, bodyOf(ResolverFile(c.host, c.own, c.ipv6))); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

// bodyOf is a resolv.conf without the two lines of its head.
func bodyOf(file []byte) string { return strings.SplitAfterN(string(file), "\n", 3)[2] }

func TestInternalResolverFile(t *testing.T) {
	host := ParseResolver([]byte("nameserver 127.0.0.53\nsearch a\noptions edns0\n"))
	at := netip.MustParseAddr("127.0.0.11")
	file := InternalResolverFile(at, host, Resolver{Nameservers: []string{"1.1.1.1"}})
	if d := cmp.Diff("nameserver 127.0.0.11\nsearch a\noptions edns0 ndots:0\n", bodyOf(file)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("nameserver 127.0.0.11\nsearch b\noptions ndots:2\n", bodyOf(InternalResolverFile(at, host, Resolver{Search: []string{"b"}, Options: []string{"ndots:2"}}))); d != "" {
		t.Error(d)
	}
	if !Ours(file) || Ours(append(file, '\n')) || Ours(nil) || Ours([]byte(head)) {
		t.Error("a file of ours is taken for somebody else's, or the other way round")
	}
}

func TestSharedResolverFileIsTheHosts(t *testing.T) {
	file := []byte("nameserver 127.0.0.53\n; odd\n")
	if got := SharedResolverFile(file, Resolver{}); string(got) != string(file) {
		t.Errorf("%q", got)
	}
	if got := string(SharedResolverFile(file, Resolver{Search: []string{"x"}})); !strings.HasSuffix(got, "nameserver 127.0.0.53\nsearch x\n") {
		t.Errorf("%q", got)
	}
}

func FuzzResolver(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\nsearch a\noptions x\n"))
	f.Add([]byte("nameserver 2001:db8::1%eth0\n#\n;\n\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := ParseResolver(b)
		again := ParseResolver(r.file())
		if d := cmp.Diff(r, again); d != "" {
			t.Error(d)
		}
	})
}
