package image

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/tare-engine/tare/internal/errdefs"
)

func TestChange(t *testing.T) {
	for _, c := range []struct{ from, changes, want string }{
		{`{"Cmd":["a"],"Env":["A=1"]}`, "", `{"Env":["A=1"],"Cmd":["a"]}`},
		{`{}`, `CMD ["x","y z"]`, `{"Cmd":["x","y z"]}`},
		{`{"Cmd":["a"]}`, `CMD`, `{"Cmd":["/bin/sh","-c"]}`},
		{`{}`, `cmd x y`, `{"Cmd":["/bin/sh","-c","x y"]}`},
		{`{"Cmd":["a"]}`, `ENTRYPOINT ["e"]`, `{"Entrypoint":["e"]}`},
		{`{}`, `CMD c|ENTRYPOINT ["e"]`, `{"Entrypoint":["e"],"Cmd":["/bin/sh","-c","c"]}`},
		{`{}`, `SHELL ["/bin/ash","-c"]|CMD x`, `{"Cmd":["/bin/ash","-c","x"],"Shell":["/bin/ash","-c"]}`},
		{`{"Env":["A=1","B=2"]}`, `ENV A=x C="y z"|ENV D $A|ENV old value`, `{"Env":["A=x","B=2","C=y z","D=x","old=value"]}`},
		{`{"ExposedPorts":{"1/tcp":{}}}`, `EXPOSE 80 8000-8001/udp|ENV P=9|EXPOSE $P`, `{"ExposedPorts":{"1/tcp":{},"80/tcp":{},"8000/udp":{},"8001/udp":{},"9/tcp":{}},"Env":["P=9"]}`},
		{`{"Labels":{"a":"1"}}`, `LABEL a=2 b="x y"`, `{"Labels":{"a":"2","b":"x y"}}`},
		{`{"WorkingDir":"/a"}`, `WORKDIR b|WORKDIR ../c`, `{"WorkingDir":"/a/c"}`},
		{`{"WorkingDir":"/a"}`, `WORKDIR /x/`, `{"WorkingDir":"/x"}`},
		{`{}`, `USER u:g|VOLUME /v ["/w"]|STOPSIGNAL SIGINT`, `{"User":"u:g","Volumes":{"/v":{},"[/w]":{}},"StopSignal":"SIGINT"}`},
		{`{}`, `VOLUME ["/a","/b"]`, `{"Volumes":{"/a":{},"/b":{}}}`},
		{`{"OnBuild":["a"]}`, `ONBUILD RUN x y`, `{"OnBuild":["a","RUN x y"]}`},
		{`{}`, `HEALTHCHECK --interval=5s --retries=2 CMD ["t"]`, `{"Healthcheck":{"Test":["CMD","t"],"Interval":5000000000,"Retries":2}}`},
		{`{}`, `HEALTHCHECK NONE`, `{"Healthcheck":{"Test":["NONE"]}}`},
	} {
		var config dockerspec.DockerOCIImageConfig
		if err := json.Unmarshal([]byte(c.from), &config); err != nil {
			t.Fatal(err)
		}
		before, _ := json.Marshal(config)
		copied := config
		var lines []string
		if c.changes != "" {
			lines = strings.Split(c.changes, "|")
		}
		if err := Change(&copied, lines); err != nil {
			t.Errorf("%s: %v", c.changes, err)
			continue
		}
		if got, _ := json.Marshal(copied); string(got) != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.changes, got, c.want)
		}
		if after, _ := json.Marshal(config); string(after) != string(before) {
			t.Errorf("%s changes what others have: %s", c.changes, after)
		}
	}
	for _, bad := range []string{"RUN x", "FROM x", "COPY a b", "FOO", "ENV", "ENV =x", "EXPOSE x", "EXPOSE 99999", "WORKDIR", "USER", "VOLUME", `VOLUME [""]`,
		"ONBUILD FROM x", "ONBUILD ONBUILD RUN x", "HEALTHCHECK", "HEALTHCHECK FOO", "HEALTHCHECK --interval=x CMD y", "SHELL x", "STOPSIGNAL", "LABEL", "LABEL x", `ENV A="x`, "ARG x", "CMD x|RUN y",
		"ENV a=aaaaaaaaaaaaaaaa" + strings.Repeat("|ENV a=$a$a$a$a", 30), strings.Repeat("EXPOSE 1-65535|", 10), "ENV a=" + strings.Repeat("a", 300<<10), "ENV a=b c=${a//b/bb}"} {
		var c dockerspec.DockerOCIImageConfig
		if err := Change(&c, strings.Split(bad, "|")); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%.100s: %v", bad, err)
		}
	}
}

func TestPublicAddresses(t *testing.T) {
	for ip, want := range map[string]bool{
		"8.8.8.8": true, "2001:4860::1": true, "127.0.0.1": false, "::1": false, "0.0.0.0": false, "::": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "fe80::1": false, "fd00::1": false, "100.64.0.1": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
	} {
		if got := public(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
	if err := refusePrivate("tcp6", "[::ffff:127.0.0.1]:80", nil); !errdefs.Is(err, errdefs.Forbidden) {
		t.Errorf("an address of IPv4 in IPv6: %v", err)
	}
}

// The engine fetches nothing from where only it can reach.
func TestDownloadStaysOutside(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer s.Close()
	quiet := func(jsonstream.Message) {}
	for _, source := range []string{s.URL, strings.Replace(s.URL, "127.0.0.1", "localhost", 1), strings.TrimPrefix(s.URL, "http://"), strings.Replace(s.URL, "127.0.0.1", "0", 1)} {
		if _, err := Download(t.Context(), source, quiet); err == nil {
			t.Errorf("%s was fetched", source)
		}
	}
	for _, source := range []string{"file:///etc/shadow", "ftp://x/y", "http://", "gopher://x", "http://a b"} {
		if _, err := Download(t.Context(), source, quiet); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: %v", source, err)
		}
	}
	if asked > 0 {
		t.Errorf("%d requests", asked)
	}
}

// What a server says to the request is the answer to the client, before any
// message.
func TestDownloadThatIsRefused(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Path[1:])
		w.WriteHeader(status)
	}))
	defer s.Close()
	for status, kind := range map[string]errdefs.Kind{"404": errdefs.NotFound, "403": errdefs.Forbidden, "401": errdefs.Unauthorized, "410": errdefs.InvalidArgument, "500": errdefs.InvalidArgument} {
		u, err := url.Parse(s.URL + "/" + status)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fetch(t.Context(), u, nil); err == nil || errdefs.KindOf(err) != kind || !strings.Contains(err.Error(), "failed to GET "+u.String()+" with status "+status) {
			t.Errorf("%s: %v", status, err)
		}
	}
	said := 0
	if _, err := Download(t.Context(), s.URL+"/404", func(jsonstream.Message) { said++ }); !errdefs.Is(err, errdefs.Forbidden) || said > 0 {
		t.Errorf("%v, after %d messages", err, said)
	}
}

// FuzzChange: whatever a client sends is taken or refused, and what is taken
// can be written down and read again.
func FuzzChange(f *testing.F) {
	for _, s := range []string{"CMD [\"a\"]\nENV A=b C=$A", "EXPOSE 1-70000/udp ${x:-80}", "HEALTHCHECK --interval=1s CMD <<E\nx\nE", "# escape=`\nLABEL a=`\n b", "ONBUILD CMD \\\n x", "VOLUME [\"\x00\"]", "SHELL [", "env a=${a%%*}${a##b}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c dockerspec.DockerOCIImageConfig
		if err := Change(&c, []string{text}); err != nil {
			if !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatalf("%q becomes %s: %v", text, b, err)
		}
	})
}
