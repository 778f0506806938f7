package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// configFileWith writes a configuration file and returns its path.
func configFileWith(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// parse reads flags with an empty configuration file, unless they name one.
func parse(t testing.TB, args ...string) (*Config, error) {
	t.Helper()
	for _, a := range args {
		if strings.HasPrefix(a, "--config-file") {
			return parseArgs(args, io.Discard)
		}
	}
	return parseArgs(append(args, "--config-file="+configFileWith(t, "")), io.Discard)
}

func TestDefaults(t *testing.T) {
	c, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	if c.DataRoot != "/var/lib/tare" || c.ExecRoot != "/run/tare" || len(c.Hosts) != 1 || c.Hosts[0] != "unix:///run/tare/tared.sock" || c.LogLevel != "info" || c.Bridge != "tare0" || c.BIP.IsValid() {
		t.Errorf("%+v", c)
	}
}

func TestFlags(t *testing.T) {
	c, err := parse(t, "-H", "unix:///a/b.sock", "--host=tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert=/ca", "--tlscert=/cert", "--tlskey=/key",
		"--data-root", "/d", "--exec-root=/e", "-p", "/p.pid", "-D", "-l", "warn", "--log-format=json", "-G", "wheel", "--bip=10.9.0.1/24", "-b", "br7", "-s", "vfs")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(c.Hosts, " ") != "unix:///a/b.sock tcp://127.0.0.1:2376" || !c.TLSVerify || c.DataRoot != "/d" || c.ExecRoot != "/e" || c.PIDFile != "/p.pid" ||
		!c.Debug || c.LogLevel != "warn" || c.LogFormat != "json" || c.Group != "wheel" || c.BIP.String() != "10.9.0.1/24" || c.Bridge != "br7" || c.StorageDriver != "vfs" {
		t.Errorf("%+v", c)
	}
	c, err = parse(t, "--mtu", "1400", "--icc=false", "--ip", "127.0.0.1", "--host-gateway-ip", "10.0.0.9", "--dns", "10.0.0.1", "--dns", "10.0.0.2", "--dns-search", "a.example", "--dns-opt", "ndots:2", "--firewall-integration")
	if err != nil {
		t.Fatal(err)
	}
	n := networkConfig(c, "12345678")
	if n.MTU != 1400 || !n.NoICC || !n.Integrate || n.HostIP.String() != "127.0.0.1" || n.HostGateway.String() != "10.0.0.9" || strings.Join(slices.Concat(n.DNS, n.DNSSearch, n.DNSOptions), " ") != "10.0.0.1 10.0.0.2 a.example ndots:2" {
		t.Errorf("%+v", n)
	}
	for _, bad := range []string{"--mtu=67", "--mtu=x", "--mtu=65536", "--ip=::1", "--ip=localhost", "--host-gateway-ip=x", "--ipv6=maybe", "--fixed-cidr-v6=10.0.0.0/8", "--fixed-cidr-v6=fe80::/64", "--fixed-cidr-v6=fd00::/64", "--dns=x", "--dns-search=a b", "--dns-opt=", "--label=x", "--label==y", "--host-gateway-ip=::1"} {
		if _, err := parse(t, bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	for _, bad := range [][]string{{"--label=a=1", "--label=a=2"}, {"--host-gateway-ip=10.0.0.1", "--host-gateway-ip=10.0.0.2"}} {
		if _, err := parse(t, bad...); err == nil {
			t.Errorf("%q are taken", bad)
		}
	}
	if n := networkConfig(defaultConfig(), "12345678"); n.NoRelay {
		t.Error("published ports are not on ::1")
	}
	c, err = parse(t, "--userland-proxy=false")
	if n := networkConfig(c, "12345678"); err != nil || !n.NoRelay {
		t.Error(n.NoRelay, err)
	}
	c, err = parse(t, "--ipv6", "--fixed-cidr-v6", "2001:db8:1::9/64")
	if n := networkConfig(c, "12345678"); err != nil || !n.IPv6 || n.IPv6Auto || n.Subnet6.String() != "2001:db8:1::/64" {
		t.Errorf("%+v, %v", n, err)
	}
	c, err = parseArgs([]string{"--config-file", configFileWith(t, `{"ipv6": "auto"}`)}, io.Discard)
	if n := networkConfig(c, "12345678"); err != nil || n.IPv6 || !n.IPv6Auto {
		t.Errorf("%+v, %v", n, err)
	}
	// As dockerd's documents have them.
	file := configFileWith(t, `{"mtu": 1400, "icc": false, "firewall-integration": true, "ip": "127.0.0.1", "dns": ["10.0.0.1"], "dns-opts": ["ndots:2"], "dns-search": ["a.example"], "host-gateway-ips": ["10.0.0.9"], "labels": ["a=b", "c=d"]}`)
	c, err = parse(t, "--config-file="+file)
	if err != nil {
		t.Fatal(err)
	}
	if n := networkConfig(c, "12345678"); n.MTU != 1400 || !n.NoICC || !n.Integrate || n.HostGateway.String() != "10.0.0.9" || len(c.Labels) != 2 {
		t.Errorf("%+v, %q", n, c.Labels)
	}
	c, err = parse(t, "-D")
	if err != nil {
		t.Fatal(err)
	}
	if c.level() != slog.LevelDebug {
		t.Errorf("level %v", c.level())
	}
}

func TestHelpAndVersion(t *testing.T) {
	var help strings.Builder
	if _, err := parseArgs([]string{"--help"}, &help); !errors.Is(err, pflag.ErrHelp) || !strings.Contains(help.String(), "--data-root directory") {
		t.Errorf("%v\n%s", err, help.String())
	}
	if c, err := parseArgs([]string{"-v", "--config-file=/nonexistent"}, io.Discard); err != nil || !c.ShowVersion {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestBadFlags(t *testing.T) {
	tests := []struct{ args, want string }{
		{"--nope", "unknown flag: --nope"},
		{"start", `unexpected argument "start"`},
		{"-H localhost:2375", "want unix://PATH, tcp://HOST:PORT or fd://"},
		{"-H npipe://x", `unknown scheme "npipe": want unix, tcp or fd`},
		{"-H unix://rel/path", "want an absolute path"},
		{"-H tcp://127.0.0.1:99999", `port "99999" is no number up to 65535`},
		{"-H fd:// -H fd://", "given twice"},
		{"-H tcp://127.0.0.1:2375", "root on this machine"},
		{"-H tcp://127.0.0.1:2375 --tlscert /a --tlskey /b", "root on this machine"},
		{"--tlsverify", "tlsverify needs tlscacert, tlscert and tlskey"},
		{"--tlscert=/x", "tlscert and tlskey need each other"},
		{"--data-root=rel", "want an absolute path"},
		{"--data-root=/a/../b", "want an absolute path, without . and .. in it"},
		{"--data-root=/a[1]", "want a path without *, ?, [ and \\ in it"},
		{"--data-root=/a --exec-root=/a", "data-root and exec-root are both /a"},
		{"--debug=maybe", "want true or false"},
		{"--log-level=loud", "want one of debug, info, warn, error, fatal"},
		{"--log-format=xml", "want one of text, json"},
		{"--bip=172.17.0.0/16", "want the gateway's address, not that of the network"},
		{"--bip=172.17.0.1", "want an address with prefix length"},
		{"--bip=172.17.0.1/31", "no room for containers"},
		{"--bip=fd00::1/64", "want an IPv4 address"},
		{"--bridge=sixteen-letters-", "want the name of a link"},
		{"--bridge=a/b", "want the name of a link"},
		{"--default-address-pool=base=10.10.0.0/16,size=x", `invalid size value: "x" (must be integer)`},
		{"--default-address-pool=base=10.10.0.0/16,foo=x", "unexpected key 'foo' in 'foo=x'"},
		{"--default-address-pool=base=10.10.0.0/16,size=8", "invalid pools size: 8"},
		{"--default-address-pool=base=10.10.0.0/16", "invalid pools size: 0"},
		{"--default-address-pool=base=10.10.0.0/16,size=33", "invalid pools size: 33"},
		{"--default-address-pool=size=24", `invalid base pool ""`},
		{"--default-address-pool=base=foo,size=24", `invalid base pool "foo"`},
		{"--default-address-pool=base=fe80::/64,size=64", "no addresses of hosts"},
		{"--default-address-pool=base=10.0.0.0/8,size=24 --default-address-pool=base=10.1.0.0/16,size=24", "overlap"},
		{"--default-network-opt=bridge=x", "want DRIVER=NAME=VALUE"},
		{"--default-network-opt=bridge=x=1 --default-network-opt=bridge=x=2", "the option x for the driver bridge is given twice"},
		{"--storage-driver=zfs", "driver not supported: zfs (want one of overlay, btrfs, union, vfs, devicemapper)"},
		{"--storage-opt=size", "Unable to parse key/value option: size"},
		{"--exec-opt=native.umask=normal", "want native.cgroupdriver=cgroupfs or native.cgroupdriver=systemd"},
		{"--exec-opt=native.cgroupdriver=none", "native.cgroupdriver option none not supported"},
		{"--exec-opt=native.cgroupdriver=cgroupfs --exec-opt=native.cgroupdriver=systemd", "exec-opts: native.cgroupdriver is given twice"},
		{"--config-file=/nonexistent/daemon.json", "configuration file: open /nonexistent/daemon.json: no such file or directory"},
		{"--config-file=/dev/zero", "not a regular file"},
		{"--add-runtime=runsc", "want NAME=PATH"},
		{"--add-runtime=tare=/x", `runtime name "tare" is reserved`},
		{"--add-runtime=a=/x --add-runtime=a=/y", `runtime "a" is given twice`},
		{"--add-runtime=io.containerd.runc.v2=/x", "is a shim of containerd"},
	}
	for _, tt := range tests {
		if _, err := parse(t, strings.Fields(tt.args)...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.want)
		}
	}
	if _, err := parse(t, "-H", "tcp://127.0.0.1:2375", "--insecure-tcp"); err != nil {
		t.Error(err)
	}
}

func TestConfigFile(t *testing.T) {
	c, err := parse(t, "--log-level=warn", "--config-file="+configFileWith(t, `{
		"hosts": ["unix:///x/y.sock", "fd://"],
		"debug": false, "data-root": "/d", "bip": "10.1.0.1/16", "storage-driver": "vfs"
	}`+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Hosts) != 2 || c.DataRoot != "/d" || c.BIP.String() != "10.1.0.1/16" || c.StorageDriver != "vfs" || c.LogLevel != "warn" {
		t.Errorf("%+v", c)
	}
}

func TestProxiesOfTheFile(t *testing.T) {
	c, err := parse(t, "--config-file="+configFileWith(t, `{"proxies": {"http-proxy": "http://a:1", "no-proxy": "x,y"}, "https-proxy": "http://b:2"}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Registries.HTTPProxy != "http://a:1" || c.Registries.HTTPSProxy != "http://b:2" || c.Registries.NoProxy != "x,y" {
		t.Errorf("%q, %q, %q", c.Registries.HTTPProxy, c.Registries.HTTPSProxy, c.Registries.NoProxy)
	}
}

func TestRuntimes(t *testing.T) {
	file := configFileWith(t, `{"default-runtime": "crun", "runtimes": {"runsc": {"path": "/opt/runsc", "runtimeArgs": ["--platform", "kvm"]}, "crun": {"path": "crun"}}}`)
	fromFile, err := parse(t, "--config-file="+file)
	if err != nil {
		t.Fatal(err)
	}
	if got := (runtimesValue{&fromFile.Runtimes}).String(); got != "crun=crun,runsc=/opt/runsc --platform kvm" || fromFile.DefaultRun != "crun" {
		t.Errorf("%s, default %s", got, fromFile.DefaultRun)
	}
	fromFlags, err := parse(t, "--add-runtime", "a=/x", "--add-runtime=b=/y=z", "--default-runtime=b")
	if err != nil {
		t.Fatal(err)
	}
	if got := (runtimesValue{&fromFlags.Runtimes}).String(); got != "a=/x,b=/y=z" || fromFlags.DefaultRun != "b" {
		t.Errorf("%s, default %s", got, fromFlags.DefaultRun)
	}
}

func TestBadConfigFiles(t *testing.T) {
	tests := []struct{ args, text, want string }{
		{"", "{\n\"nope\": 1\n}", `:2: unknown key "nope"`},
		{"", "{\n\n  \"Debug\": true}", `:3: unknown key "Debug"`},
		{"", `{"config-file": "/x"}`, `:1: unknown key "config-file"`},
		{"", `{"": 1}`, `:1: unknown key ""`},
		{"", "{\"debug\": true,\n\"debug\": true}", `:2: key "debug" stands here for the second time`},
		{"", "{\n\"debug\": \"yes\"}", `:2: key "debug": want true or false, not "yes"`},
		{"", "{\n\"debug\": null}", `:2: key "debug": null is no value`},
		{"", "{\"hosts\":\n\"unix:///x\"}", `:1: key "hosts": want a list of strings, not "unix:///x"`},
		{"", `{"hosts": ["unix:///x", 3]}`, `:1: key "hosts": want a list of strings`},
		{"", `{"hosts": ["x"]}`, `:1: key "hosts": value "x": want unix://PATH`},
		{"", `{"hosts": ["fd://", "fd://"]}`, `:1: key "hosts": value "fd://": given twice`},
		{"", `{"data-root": 5}`, `:1: key "data-root": want a string, not 5`},
		{"", `{"data-root": {"a": 1}}`, `:1: key "data-root": want a string, not {"a": 1}`},
		{"", "{\"ipv6\": \"true\"}", `:1: key "ipv6": want true, false or "auto", not "true"`},
		{"", "{\n\n\"bip\": \"nonsense\"}", `:3: key "bip": value "nonsense": want an address with prefix length`},
		{"", `{"runtimes": ["x"]}`, `:1: key "runtimes": want an object such as {"NAME": {"path": "PATH"}}, not ["x"]`},
		{"", `{"runtimes": {"a": "/x"}}`, `:1: key "runtimes": runtime "a": want an object such as {"path": "PATH"}, not "/x"`},
		{"", `{"runtimes": {"a": {}}}`, `runtime "a": a path is required`},
		{"", `{"runtimes": {"a": {"path": "/x", "runtimeType": "io.containerd.runc.v2"}}}`, `runtime "a": runtimeType is not supported: it names a shim of containerd`},
		{"", `{"runtimes": {"a": {"path": "/x", "options": {}}}}`, `runtime "a": options is not supported: it is for a shim of containerd`},
		{"", `{"runtimes": {"a": {"path": "/x", "nope": 1}}}`, `runtime "a": json: unknown field "nope"`},
		{"--add-runtime=b=/y", `{"runtimes": {"a": {"path": "/x"}}}`, `key "runtimes": given as the flag --add-runtime too (flag: b=/y,`},
		{"", `{"proxies": "http://p"}`, `:1: key "proxies": want an object of http-proxy, https-proxy and no-proxy`},
		{"", "{\"proxies\": {\n\"ftp-proxy\": \"http://p\"}}", `:2: unknown key "ftp-proxy" in "proxies"`},
		{"", `{"proxies": {"http-proxy": 1}}`, `:1: key "http-proxy": want a string, not 1`},
		{"", `{"proxies": {"http-proxy": "http://p"}, "http-proxy": "http://p"}`, `key "http-proxy" stands here for the second time`},
		{"", `{"proxies": {}, "proxies": {}}`, `key "proxies" stands here for the second time`},
		{"", `{"proxies": {"no-proxy": "a"`, `the file ends within the JSON object`},
		{"--http-proxy=http://q", `{"proxies": {"http-proxy": "http://p"}}`, `key "http-proxy": given as the flag --http-proxy too`},
		{"", `{"log-level": "loud"}`, `:1: key "log-level": value "loud": want one of`},
		{"--debug", "{\n\"debug\": true}", `:2: key "debug": given as the flag --debug too (flag: true, file: true)`},
		{"-H fd://", `{"hosts": ["unix:///x"]}`, `:1: key "hosts": given as the flag --host too (flag: fd://, file: ["unix:///x"])`},
		{"", "{\n\"debug\": true", `:2: the file ends within the JSON object`},
		{"", "{\n\"debug\": true,}", `:2: invalid character '}'`},
		{"", "{\n\"debug\" true}", `:2: expected colon after object key`},
		{"", "{\n// comment\n}", `:2: invalid character '/'`},
		{"", "{}\n{}", `:2: unexpected text after the closing brace`},
		{"", "[]", `:1: want a JSON object`},
		{"", "null", `:1: want a JSON object`},
		{"", "debug: true", `:1: invalid character 'd'`},
		{"", "\xef\xbb\xbf{}", `:1: invalid character 'ï'`},
		{"", `{"tlsverify": true}`, `tlsverify needs tlscacert, tlscert and tlskey`},
		{"", `{"hosts": ["tcp://0.0.0.0:2375"]}`, `root on this machine`},
		{"", `{"data-root": "/run/tare"}`, `data-root and exec-root are both /run/tare`},
		{"", strings.Repeat(" ", maxConfigFile) + "{}", `larger than 1048576 bytes`},
	}
	for _, tt := range tests {
		path := configFileWith(t, tt.text)
		_, err := parse(t, append(strings.Fields(tt.args), "--config-file="+path)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %.60q: %v, want %q", tt.args, tt.text, err, tt.want)
		} else if strings.HasPrefix(tt.want, ":") && !strings.Contains(err.Error(), path+":") {
			t.Errorf("%.60q: %v does not name the file", tt.text, err)
		}
	}
}

func TestReload(t *testing.T) {
	path := configFileWith(t, `{"log-level": "info", "bip": "10.1.0.1/16"}`)
	c, err := parse(t, "--config-file="+path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"log-level": "error", "bip": "10.2.0.1/16"}`)
	next, err := c.reload()
	if err != nil {
		t.Fatal(err)
	}
	if next.level() != slog.LevelError || strings.Join(c.needRestart(next), " ") != "bip" {
		t.Errorf("level %v, restart for %q", next.level(), c.needRestart(next))
	}
	write(`{"log-level": "loud"}`)
	if _, err := c.reload(); err == nil || c.LogLevel != "info" {
		t.Errorf("%v, level %s", err, c.LogLevel)
	}
}

func TestLogLinesCannotBeForged(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out strings.Builder
		log := (&Config{LogFormat: format, LogLevel: "info"}).newLogger(&out, new(slog.LevelVar))
		log.Info("start", "name", "a\nlevel=ERROR msg=forged\x1b[31m")
		if strings.Count(out.String(), "\n") != 1 || strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: %q", format, out.String())
		}
	}
}

// FuzzConfigFile looks for a file that panics, or an error that names none.
func FuzzConfigFile(f *testing.F) {
	for _, s := range []string{"", "{}", `{"debug":true}`, `{"hosts":["fd://"]}`, `{"debug":`, `{"a":{"b":[1]}}`, "[1,2", `{"debug":true "x"}`, `{1:2}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := defaultConfig()
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		options := c.options()
		for _, o := range options {
			if o.flag != "" {
				set.Var(o.value, o.flag, "")
			}
		}
		file := configFile{path: "FILE", data: []byte(s), options: options, set: set}
		if err := file.apply(); err != nil && !strings.HasPrefix(err.Error(), "FILE:") {
			t.Fatalf("%q: %v", s, err)
		}
	})
}

// TestPoolsAndOptionsOfNetworks are the same as flags and in the file.
func TestPoolsAndOptionsOfNetworks(t *testing.T) {
	flags := []string{
		"--default-address-pool=base=10.10.1.0/16,size=24", "--default-address-pool", "size=64,base=fd00:1::/48",
		"--default-network-opt=bridge=com.docker.network.driver.mtu=1400", "--default-network-opt=macvlan=parent=eth0=x",
	}
	file := "--config-file=" + configFileWith(t, `{
		"default-address-pools": [{"base": "10.10.1.0/16", "size": 24}, {"base": "fd00:1::/48", "size": 64}],
		"default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400"}, "macvlan": {"parent": "eth0=x"}}}`)
	for _, args := range [][]string{flags, {file}} {
		c, err := parse(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		n := networkConfig(c, "12345678")
		if len(n.Pools) != 2 || n.Pools[0].Base.String() != "10.10.0.0/16" || n.Pools[0].Size != 24 || n.Pools[1].Base.String() != "fd00:1::/48" || n.Pools[1].Size != 64 ||
			n.Options["bridge"]["com.docker.network.driver.mtu"] != "1400" || n.Options["macvlan"]["parent"] != "eth0=x" {
			t.Errorf("%+v", n)
		}
	}
	for _, bad := range []string{`{"default-address-pools": {}}`, `{"default-address-pools": [{"base": "x", "size": 1}]}`, `{"default-network-opts": {"bridge": 1}}`} {
		if _, err := parse(t, "--config-file="+configFileWith(t, bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestBuilder(t *testing.T) {
	c, err := parse(t, "--config-file="+configFileWith(t, `{"builder": {
		"gc": {"enabled": true, "defaultKeepStorage": "20GB", "policy": [
			{"filter": ["unused-for=48h", "type=source.local"], "maxUsedSpace": "512MB"}, {"all": true, "keepStorage": "10%"}, {"all": true}]},
		"entitlements": {"network-host": false, "security-insecure": false, "device": true}}}`))
	if err != nil {
		t.Fatal(err)
	}
	b := buildConfig(c, "12345678", "overlay")
	if r := b.Bounds.Rules; b.Bounds.Off || len(r) != 3 || r[0].Spaces.MaxUsed.Bytes != 512<<20 || !r[1].All || r[1].Spaces.Reserved.Percentage != 10 ||
		b.Bounds.Defaults.Reserved.Bytes != 20<<30 || !slices.Equal(b.Denied, []string{"network.host"}) {
		t.Errorf("%+v", b)
	}
	if c, err = parse(t, "--build-cache-cap=5%"); err != nil || c.Builder.bounds().Defaults.MaxUsed.Percentage != 5 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = parse(t, `--builder={"gc": {"enabled": false}}`); err != nil || !c.Builder.bounds().Off {
		t.Errorf("%+v, %v", c, err)
	}
	for file, want := range map[string]string{
		`{"builder": []}`: "want an object such as",
		`{"builder": {"gc": {"policy": [{"filter": ["age=1h"]}]}}}`:                     "want KEY=VALUE",
		`{"builder": {"gc": {"policy": [{"filter": ["until=1h", "unused-for=2h"]}]}}}`:  "one age",
		`{"builder": {"gc": {"policy": [{"filter": ["until=yesterday"]}]}}}`:            "want a duration",
		`{"builder": {"gc": {"defaultMaxUsedSpace": "much"}}}`:                          "neither bytes",
		`{"builder": {"entitlements": {"security-insecure": true}}}`:                    "not offered",
		`{"builder": {"entitlements": {"root": true}}}`:                                 "is unknown",
		`{"builder": {"cap": 1}}`:                                                       "unknown field",
		`{"builder": {"gc": {"defaultMaxUsedSpace": "1GB"}}, "build-cache-cap": "1GB"}`: "both given",
		`{"build-cache-cap": "200%"}`:                                                   "neither bytes",
	} {
		if _, err := parse(t, "--config-file="+configFileWith(t, file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
}
