package api

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReadExtensions(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       Extensions
	}{
		{"org.example", "tare.x", Extensions{}},
		{"tare.health-on-failure", "none", Extensions{}},
		{"tare.health-on-failure", "kill", Extensions{OnUnhealthy: "kill"}},
		{"tare.bind-owner", "/a=5,/b/=0:7,/c=d=1", Extensions{Owners: []BindOwner{{Target: "/a", UID: 5}, {Target: "/b", GID: 7, Group: true}, {Target: "/c=d", UID: 1}}}},
		{"tare.health-startup-cmd", "[ -e /x ]", Extensions{Startup: StartupProbe{Test: []string{"CMD-SHELL", "[ -e /x ]"}}}},
		{"tare.health-startup-cmd", `["test", "-e", "/a b"]`, Extensions{Startup: StartupProbe{Test: []string{"CMD", "test", "-e", "/a b"}}}},
		{"tare.health-startup-file", "/x", Extensions{Startup: StartupProbe{Test: []string{"FILE", "/x"}}}},
		{"tare.health-startup-grpc", ":1/s", Extensions{Startup: StartupProbe{Test: []string{"GRPC", ":1/s"}}}},
		{"tare.health-startup-http", "http://localhost", Extensions{Startup: StartupProbe{Test: []string{"HTTP", "http://localhost"}}}},
		{"tare.health-startup-interval", "2m3s", Extensions{Startup: StartupProbe{Interval: 123 * time.Second}}},
		{"tare.health-startup-retries", "0", Extensions{}},
		{"tare.health-startup-retries", "3", Extensions{Startup: StartupProbe{Retries: 3}}},
		{"tare.health-startup-success", "4", Extensions{Startup: StartupProbe{Successes: 4}}},
		{"tare.health-startup-tcp", ":1", Extensions{Startup: StartupProbe{Test: []string{"TCP", ":1"}}}},
		{"tare.health-startup-timeout", "1ms", Extensions{Startup: StartupProbe{Timeout: time.Millisecond}}},
		{"tare.net-delay", "100ms", Extensions{Network: NetworkLimits{Delay: 100 * time.Millisecond}}},
		{"tare.net-delay", "0", Extensions{}},
		{"tare.net-loss", "0.5%", Extensions{Network: NetworkLimits{Loss: 0.5}}},
		{"tare.net-loss", "100", Extensions{Network: NetworkLimits{Loss: 100}}},
		{"tare.net-rate-in", "8kbit", Extensions{Network: NetworkLimits{RateIn: 1000}}},
		{"tare.net-rate-in", "10mbit", Extensions{Network: NetworkLimits{RateIn: 1250000}}},
		{"tare.net-rate-in", "2.5Gbit/s", Extensions{Network: NetworkLimits{RateIn: 312500000}}},
		{"tare.net-rate-in", "8Mibit", Extensions{Network: NetworkLimits{RateIn: 1 << 20}}},
		{"tare.net-rate-in", "0", Extensions{}},
		{"tare.net-rate-out", "1.5MB/s", Extensions{Network: NetworkLimits{RateOut: 1500000}}},
		{"tare.net-rate-out", "4KiB/s", Extensions{Network: NetworkLimits{RateOut: 4096}}},
		{"tare.requires", "a,b", Extensions{Requires: []string{"a", "b"}}},
		{"tare.systemd", "auto", Extensions{Systemd: "auto"}},
		{"tare.timeout", "90", Extensions{Timeout: 90 * time.Second}},
		{"tare.tz", "local", Extensions{TimeZone: "local"}},
		{"tare.tz", "America/Argentina/Buenos_Aires", Extensions{TimeZone: "America/Argentina/Buenos_Aires"}},
		{"tare.tz", "Etc/GMT+5", Extensions{TimeZone: "Etc/GMT+5"}},
	} {
		got, err := ReadExtensions(map[string]string{c.key: c.value})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s=%s: %+v, %v", c.key, c.value, got, err)
		}
	}
}

func TestReadExtensionsRefuses(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"tare.bind-owner", "", "must be TARGET=UID[:GID]"},
		{"tare.bind-owner", "a=5", "must be TARGET=UID[:GID]"},
		{"tare.bind-owner", "/a", "must be TARGET=UID[:GID]"},
		{"tare.bind-owner", "/a=", "must be numbers"},
		{"tare.bind-owner", "/a=5:", "must be numbers"},
		{"tare.bind-owner", "/a=-1", "must be numbers"},
		{"tare.bind-owner", "/a=4294967295", "must be numbers"},
		{"tare.bind-owner", "/a=1,/a/=2", "/a is there twice"},
		{"tare.health-on-failure", "reboot", `invalid tare.health-on-failure "reboot": must be none, kill, restart or stop`},
		{"tare.health-startup-cmd", "", "must not be empty"},
		{"tare.health-startup-cmd", "[]", "must not be empty"},
		{"tare.health-startup-file", "", "must not be empty"},
		{"tare.health-startup-interval", "disable", "must be a time of at least 1ms, such as 10s"},
		{"tare.health-startup-interval", "10", "must be a time"},
		{"tare.health-startup-retries", "-1", "must be a whole number"},
		{"tare.health-startup-success", "99999999999", "must be a whole number"},
		{"tare.health-startup-timeout", "1us", "must be a time"},
		{"tare.net-delay", "", "must be a time"},
		{"tare.net-delay", "-1s", "must be a time"},
		{"tare.net-delay", "2m", "must be a time from 1us to 1m"},
		{"tare.net-delay", "100", "must be a time"},
		{"tare.net-loss", "101%", "must be a percentage"},
		{"tare.net-loss", "-1", "must be a percentage"},
		{"tare.net-loss", "NaN", "must be a percentage"},
		{"tare.net-loss", "few", "must be a percentage"},
		{"tare.net-rate-in", "10", "must be a rate such as 10mbit"},
		{"tare.net-rate-in", "10mbps", "must be a rate such as 10mbit"}, // bits or bytes?
		{"tare.net-rate-in", "10mb/s", "must be a rate"},
		{"tare.net-rate-in", "mbit", "must be a rate"},
		{"tare.net-rate-in", "1.2.3mbit", "must be a rate"},
		{"tare.net-rate-in", "-1mbit", "must be a rate"},
		{"tare.net-rate-out", "7kbit", "must be between 8kbit and 1tbit"},
		{"tare.net-rate-out", "2tbit", "must be between"},
		{"tare.net-rate-out", "99999999999999999999999GB/s", "must be between"},
		{"tare.requires", "", "must be names or IDs"},
		{"tare.requires", "a,,b", "must be names or IDs"},
		{"tare.systemd", "", "must be auto, always or false"},
		{"tare.timeout", "1s", "must be a whole number of seconds"},
		{"tare.timeout", "99999999999999", "must be a whole number of seconds"},
		{"tare.tz", "", "must be local or the name of a time zone"},
		{"tare.tz", "../../etc/shadow", "must be local or the name of a time zone"},
		{"tare.tz", "Europe/../../../etc/shadow", "must be local"},
		{"tare.tz", "/etc/shadow", "must be local"},
		{"tare.tz", "Europe/", "must be local"},
		{"tare.tz", "Eur ope", "must be local"},
		{"tare.tz", ".", "must be local"},
		{"tare.tz", strings.Repeat("A/", 500) + "A", "...\": must be local"},
		{"tare.", "x", `unknown annotation "tare."`},
		{"tare.tiemout", "5", `unknown annotation "tare.tiemout": what begins with "tare." is an option of this engine, which has tare.bind-owner, tare.health-on-failure, `},
	} {
		_, err := ReadExtensions(map[string]string{c.key: c.value, "org.example": "x"})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: %v, want %q", c.key, cut(c.value), err, c.want)
		}
	}
	_, err := ReadExtensions(map[string]string{"tare.health-startup-cmd": "true", "tare.health-startup-tcp": ":80"})
	if err == nil || !strings.Contains(err.Error(), `invalid tare.health-startup-tcp ":80": there is another startup probe`) {
		t.Error(err)
	}
}

// TestExtensionsAreDocumented compares the table with that of docs/api.md.
func TestExtensionsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `"+ExtensionPrefix) {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	var want []string
	for _, x := range ExtensionTable {
		want = append(want, "| `"+x.Annotation()+"` | `"+strings.ReplaceAll(x.Value, "|", `\|`)+"` | "+x.Usage+" |")
	}
	if !slices.Equal(rows, want) {
		t.Errorf("docs/api.md has\n%s\nthe table is\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
	if !slices.IsSortedFunc(ExtensionTable, func(a, b Extension) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the table is not sorted by name")
	}
}
