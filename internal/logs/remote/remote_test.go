package remote

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
)

var subject = Subject{
	ID: strings.Repeat("ab", 32), Name: "web", Image: "busybox", ImageID: "sha256:" + strings.Repeat("c", 64), Command: []string{"sh", "-c", "x"},
	Env: []string{"A=1", "B=2"}, Labels: map[string]string{"l": "3", "_m": "4"}, Hostname: "host", Daemon: "docker",
}

func TestCheckRefusesInDockersWords(t *testing.T) {
	for _, c := range []struct{ driver, options, want string }{
		{"syslog", "foo=1", "unknown log opt 'foo' for syslog log driver"},
		{"syslog", "syslog-address=x", "syslog-address should be in form proto://address, got x"},
		{"syslog", "syslog-address=unix:///nowhere/x", "stat /nowhere/x: no such file or directory"},
		{"syslog", "syslog-address=tcp://h,syslog-facility=x", "invalid syslog facility"},
		{"syslog", "syslog-address=tcp://h,syslog-facility=24", "invalid syslog facility"},
		{"syslog", "syslog-address=tcp://h,syslog-format=x", "Invalid syslog format"},
		{"syslog", "syslog-address=tcp://h,tag={{.Nope}}", "can't evaluate field Nope"},
		{"syslog", "syslog-address=tcp://h,tag={{range 9}}x{{end}}", "a tag has no range"},
		{"syslog", "syslog-address=tcp://h,tag={{printf \"%5000d\" 1}}", "the tag is longer than 4096 bytes"},
		{"syslog", "syslog-address=tcp+tls://h,syslog-tls-ca-cert=/nowhere", `could not read CA certificate "/nowhere"`},
		{"syslog", "syslog-address=tcp+tls://h,syslog-tls-cert=/nowhere", "Could not load X509 key pair"},
		{"journald", "mode-x=1", "unknown log opt 'mode-x' for journald log driver"},
		{"gelf", "", "gelf-address is a required parameter"},
		{"gelf", "gelf-address=x", "gelf-address should be in form proto://address, got x"},
		{"gelf", "gelf-address=unix:///x", "gelf: endpoint needs to be TCP or UDP"},
		{"gelf", "gelf-address=udp://x", "gelf: please provide gelf-address as proto://host:port"},
		{"gelf", "gelf-address=tcp://x:1,gelf-compression-type=gzip", "compression is only supported on UDP"},
		{"gelf", "gelf-address=udp://x:1,gelf-compression-type=xz", `unknown value "xz" for log opt "gelf-compression-type" for gelf log driver`},
		{"gelf", "gelf-address=udp://x:1,gelf-compression-level=10", `unknown value "10" for log opt "gelf-compression-level" for gelf log driver`},
		{"gelf", "gelf-address=udp://x:1,gelf-tcp-max-reconnect=1", `"gelf-tcp-max-reconnect" is only valid for TCP`},
		{"gelf", "gelf-address=tcp://x:1,gelf-tcp-max-reconnect=-1", `"gelf-tcp-max-reconnect" must be a positive integer`},
		{"gelf", "gelf-address=tcp://x:1,foo=1", `unknown log opt "foo" for gelf log driver`},
		{"fluentd", "fluentd-address=h:x", "invalid fluentd-address h:x"},
		{"fluentd", "fluentd-address=udp://h:1", "invalid fluentd-address udp://h:1"},
		{"fluentd", "fluentd-async=x", "invalid syntax"},
		{"fluentd", "fluentd-async=true,fluentd-async-connect=true", "conflicting options: cannot specify both 'fluentd-async' and 'fluentd-async-connect'"},
		{"fluentd", "fluentd-retry-wait=x", "invalid duration"},
		{"fluentd", "fluentd-max-retries=-1", "invalid syntax"},
		{"fluentd", "fluentd-buffer-limit=x", "invalid size"},
		{"fluentd", "fluentd-request-ack=x", "invalid syntax"},
	} {
		if err := Check(c.driver, options(c.options)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %s", c.driver, c.options, err, c.want)
		}
	}
	for _, c := range []struct{ driver, options string }{
		{"syslog", "syslog-address=udp://h:1,syslog-facility=local7,syslog-format=rfc5424,tag={{.Name}}/{{.ImageName}}/{{.DaemonName}},env=A,labels=l"},
		{"gelf", "gelf-address=udp://h:1,gelf-compression-level=-1,gelf-compression-type=none"},
		{"gelf", "gelf-address=tcp://h:1,gelf-tcp-max-reconnect=0,gelf-tcp-reconnect-delay=2"},
		{"fluentd", ""},
		{"fluentd", "fluentd-address=tcp://h,fluentd-async=true,fluentd-buffer-limit=1m,fluentd-retry-wait=1s,fluentd-max-retries=3,fluentd-request-ack=true"},
	} {
		if err := Check(c.driver, options(c.options)); err != nil {
			t.Errorf("%s %s: %v", c.driver, c.options, err)
		}
	}
}

func options(s string) map[string]string {
	o := map[string]string{}
	for kv := range strings.SplitSeq(s, ",") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			o[k] = v
		}
	}
	return o
}

// encoded is how a driver writes one line.
func encoded(t *testing.T, driver, opts string, m Message) [][]byte {
	t.Helper()
	r, err := Open(driver, options(opts), &subject)
	if err != nil {
		t.Fatal(err)
	}
	if m.Time.IsZero() {
		m.Time = time.Unix(1600000000, 123456789)
	}
	packets, err := r.Encode(&m)
	if err != nil {
		t.Fatal(err)
	}
	return packets
}

func TestSyslogFormats(t *testing.T) {
	m := Message{Line: []byte("hello"), Stream: logfile.Stderr}
	for _, c := range []struct{ options, begin, end string }{
		{"syslog-address=tcp://h", "<27>Sep 1", " abababababab[PID]: hello\n"},
		{"syslog-address=tcp://h,syslog-format=rfc3164,tag=t,syslog-facility=user", "<11>Sep 1", " host t[PID]: hello\n"},
		{"syslog-address=tcp://h,syslog-format=rfc5424,tag=t", "<27>1 2020-09-1", " host t PID t - hello\n"},
		{"syslog-address=tcp://h,syslog-format=rfc5424micro,tag=t", "<27>1 2020-09-1", " host t PID t - hello\n"},
	} {
		got := string(encoded(t, "syslog", c.options, m)[0])
		got = digits.ReplaceAllString(got, "${1}PID$2")
		if !strings.HasPrefix(got, c.begin) || !strings.HasSuffix(got, c.end) {
			t.Errorf("%s: %q", c.options, got)
		}
	}
	framed := string(encoded(t, "syslog", "syslog-address=tcp+tls://h,syslog-format=rfc5424,tag=t", m)[0])
	if n, rest, _ := strings.Cut(framed, " "); n == "" || atoi(n) != len(rest) {
		t.Errorf("RFC 5425: %q", framed)
	}
}

func TestGELFMessages(t *testing.T) {
	one := encoded(t, "gelf", "gelf-address=udp://h:1,labels=l,_m,env=A,tag={{.Name}}", Message{Line: []byte("hello"), Stream: logfile.Stderr})
	if len(one) != 1 {
		t.Fatalf("%d packets", len(one))
	}
	z, err := gzip.NewReader(bytes.NewReader(one[0]))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"version": "1.1", "host": "host", "short_message": "hello", "timestamp": 1600000000.123, "level": 3.0, "_l": "3", "_A": "1", "_tag": "web", "_command": "sh -c x"} {
		if v[k] != want {
			t.Errorf("%s: %v, want %v", k, v[k], want)
		}
	}
	if tcp := encoded(t, "gelf", "gelf-address=tcp://h:1", Message{Line: []byte("x"), Stream: logfile.Stdout})[0]; tcp[len(tcp)-1] != 0 || tcp[0] != '{' {
		t.Errorf("by TCP: %q", tcp)
	}
	if none := encoded(t, "gelf", "gelf-address=tcp://h:1", Message{Stream: logfile.Stdout}); none != nil {
		t.Errorf("an empty line: %q", none)
	}
	long := bytes.Repeat([]byte("0123456789"), 1600)
	var joined []byte
	parts := encoded(t, "gelf", "gelf-address=udp://h:1,gelf-compression-type=none", Message{Line: long, Stream: logfile.Stdout})
	for i, p := range parts {
		if len(p) > gelfDatagram || p[0] != 0x1e || p[1] != 0x0f || int(p[10]) != i || int(p[11]) != len(parts) || !bytes.Equal(p[2:10], parts[0][2:10]) {
			t.Fatalf("chunk %d of %d: % x", i, len(parts), p[:12])
		}
		joined = append(joined, p[12:]...)
	}
	if !json.Valid(joined) || !bytes.Contains(joined, long) {
		t.Error("the chunks do not make the message")
	}
}

func TestFluentdMessages(t *testing.T) {
	got := encoded(t, "fluentd", "tag=t,fluentd-sub-second-precision=true,env=A", Message{Line: []byte("hello"), Stream: logfile.Stdout})[0]
	want := "\x94\xa1t\xd7\x00\x5f\x5e\x10\x00\x07\x5b\xcd\x15\x85\xa1A\xa11\xaccontainer_id\xd9\x40" + subject.ID + "\xaecontainer_name\xa4/web\xa3log\xa5hello\xa6source\xa6stdout\x80"
	if string(got) != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	piece := string(encoded(t, "fluentd", "", Message{Line: []byte("x"), Stream: logfile.Stdout, Partial: &Partial{ID: "i", Ordinal: 2}})[0])
	for _, s := range []string{"\xafpartial_message\xa4true", "\xaapartial_id\xa1i", "\xafpartial_ordinal\xa12", "\xacpartial_last\xa5false"} {
		if !strings.Contains(piece, s) {
			t.Errorf("%q is not in %q", s, piece)
		}
	}
}

func TestJournaldMessages(t *testing.T) {
	got := string(encoded(t, "journald", "labels=l,_m,tag=t", Message{Line: []byte("hello"), Stream: logfile.Stderr, Partial: &Partial{ID: "i", Ordinal: 1}})[0])
	for _, s := range []string{
		"CONTAINER_ID=abababababab\n", "CONTAINER_ID_FULL=" + subject.ID + "\n", "CONTAINER_NAME=web\n", "CONTAINER_TAG=t\n", "SYSLOG_IDENTIFIER=t\n",
		"IMAGE_NAME=busybox\n", "L=3\n", "PRIORITY=3\n", "CONTAINER_PARTIAL_MESSAGE=true\n", "MESSAGE=hello\n",
	} {
		if !strings.Contains(got, s) {
			t.Errorf("%q is not in %q", s, got)
		}
	}
	if got := string(appendField(nil, "X", []byte("a\nb"))); got != "X\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n" {
		t.Errorf("a field of two lines: %q", got)
	}
	if got := journalField("__a.b-C"); got != "A_B_C" {
		t.Errorf("a field is called %s", got)
	}
}
