package opts

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"

	"github.com/tare-engine/tare/api"
)

func TestParsePublish(t *testing.T) {
	for spec, want := range map[string]string{
		"80":                       "80/tcp@:",
		"8080:80/udp":              "80/udp@:8080",
		"127.0.0.1::80":            "80/tcp@127.0.0.1:",
		"[::1]:1:2":                "2/tcp@::1:1",
		"::1:1:2":                  "2/tcp@::1:1",
		"9000-9005:90":             "90/tcp@:9000-9005",
		"7000-7001:80-81":          "80/tcp@:7000 81/tcp@:7001",
		"target=80,published=8080": "80/tcp@:8080",
	} {
		_, bound, err := ParsePublish([]string{spec})
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if got := describe(bound); got != want {
			t.Errorf("%s: got %s, want %s", spec, got, want)
		}
	}
}

func describe(m network.PortMap) string {
	var list []string
	for port, bindings := range m {
		for _, b := range bindings {
			ip := ""
			if b.HostIP.IsValid() {
				ip = b.HostIP.String()
			}
			list = append(list, port.String()+"@"+ip+":"+b.HostPort)
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestParsePublishRefuses(t *testing.T) {
	for spec, want := range map[string]string{
		"xx":              "invalid containerPort: xx",
		"":                "no port specified: <empty>",
		"80:":             "no port specified: 80:<empty>",
		"x:80":            "invalid hostPort: x",
		"1.2.3:80:80":     "invalid IP address: 1.2.3",
		"80/xxx":          "invalid proto: xxx",
		"1-2:1-3":         "invalid ranges specified for container and host Ports: 1-3 and 1-2",
		"65536":           "invalid containerPort: 65536",
		"published=1":     "missing mandatory field 'target'",
		"target=1,foo=2":  "invalid field key: foo",
		"fe80::1%0:1:2":   "invalid IP address: fe80::1%0",
		"9-8":             "invalid containerPort: 9-8",
		"target=1,mode=x": "invalid publish mode value (x): must be either 'ingress' or 'host'",
	} {
		if _, _, err := ParsePublish([]string{spec}); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", spec, err, want)
		}
	}
}

func TestFlagsRefuse(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"-m xyz", `invalid argument "xyz" for "-m, --memory" flag: invalid size: 'xyz'`},
		{"--cpus a", `invalid argument "a" for "--cpus" flag: failed to parse a as a rational number`},
		{"--cpus 1e999999999", `invalid argument "1e999999999" for "--cpus" flag: failed to parse 1e999999999 as a rational number`},
		{"--cpus 0.00000000001", `invalid argument "0.00000000001" for "--cpus" flag: value is too precise`},
		{"--ulimit a", `invalid argument "a" for "--ulimit" flag: invalid ulimit argument: a`},
		{"-e =a", `invalid argument "=a" for "-e, --env" flag: invalid environment variable: =a`},
		{"-l =a", `invalid argument "=a" for "-l, --label" flag: invalid label '=a': empty name`},
		{"-a foo", `invalid argument "foo" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR`},
		{"--add-host foo", `invalid argument "foo" for "--add-host" flag: bad format for add-host: "foo"`},
		{"--mount foo", `invalid argument "foo" for "--mount" flag: invalid field 'foo' must be a key=value pair`},
		{"--mount type=bind,src=/a,dst=/b,volume-nocopy", `invalid argument "type=bind,src=/a,dst=/b,volume-nocopy" for "--mount" flag: cannot mix 'volume-*' options with mount type 'bind'`},
		{"--gpus a=b", `invalid argument "a=b" for "--gpus" flag: unexpected key 'a' in 'a=b'`},
		{"--device a:b:c:d", "bad format for path: a:b:c:d"},
		{"--rm --restart always", "conflicting options: cannot specify both --restart and --rm"},
		{"--health-cmd x --health-http http://localhost/", "--health-cmd conflicts with --health-http"},
		{"--health-file /x --no-healthcheck", "--no-healthcheck conflicts with --health-* options"},
		{"--health-cmd x --no-healthcheck", "--no-healthcheck conflicts with --health-* options"},
		{"--security-opt foo", `Invalid --security-opt: "foo"`},
		{"--security-opt seccomp=/nonexist", "opening seccomp profile (/nonexist) failed: open /nonexist: no such file or directory"},
		{"--log-driver none --log-opt a=b", "invalid logging opts for driver none"},
		{"--env-file /nonexist", "open /nonexist: no such file or directory"},
		{"--memory-swappiness 101", "invalid value: 101. Valid memory swappiness range is 0-100"},
		{"--pid foo", "--pid: invalid PID mode"},
		{"--network a --network a", `network "a" is specified multiple times`},
		{"--network name=a,ip=10.0.0.1 --ip 10.0.0.2", "conflicting options: cannot specify both --ip and per-network IPv4 address"},
		{"--expose 1:2", "invalid port format for --expose: 1:2"},
		{"--mac-address x", "x is not a valid mac address"},
	} {
		var ct Container
		f := pflag.NewFlagSet("run", pflag.ContinueOnError)
		ct.Add(f)
		err := f.Parse(strings.Fields(c.line))
		if err == nil {
			_, err = ct.Request("busybox", nil)
		}
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.line, err, c.want)
		}
	}
}

func TestParseEnvFile(t *testing.T) {
	lookup := func(name string) (string, bool) { return "ours", name == "KNOWN" }
	got, err := ParseEnvFile(strings.NewReader("\ufeffA=b\n# c\n\n  D=e=f \nKNOWN\nUNKNOWN\nE=\n"), lookup)
	if want := []string{"A=b", "D=e=f ", "KNOWN=ours", "E="}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for text, want := range map[string]string{
		"=x":    "no variable name on line '=x'",
		"A B=c": "variable 'A B' contains whitespaces",
		"\xff":  "invalid utf8 bytes at line 1: [255]",
	} {
		if _, err := ParseEnvFile(strings.NewReader(text), lookup); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzPortSpec(f *testing.F) {
	for _, s := range []string{"80", "1.2.3.4:80:80/udp", "[::1]:1-2:3-4", "::1:1:2", "target=1,published=2", "0-65535", "9-1", ":::", "80/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		exposed, bound, err := ParsePublish([]string{s})
		if err != nil {
			return
		}
		if len(exposed) == 0 || len(exposed) != len(bound) {
			t.Fatalf("%q: %d exposed, %d bound", s, len(exposed), len(bound))
		}
		for port, to := range bound {
			if !port.IsValid() {
				t.Fatalf("%q: port is not valid", s)
			}
			for _, b := range to {
				samePort(t, port, b)
			}
		}
	})
}

// samePort prints one binding and reads it again.
func samePort(t *testing.T, port network.Port, b network.PortBinding) {
	host := b.HostPort + ":"
	if b.HostIP.IsValid() {
		host = b.HostIP.String() + ":" + host
		if b.HostIP.Is6() {
			host = "[" + b.HostIP.String() + "]:" + b.HostPort + ":"
		}
	}
	if host == ":" {
		host = ""
	}
	_, again, err := ParsePublish([]string{host + port.String()})
	if err != nil || len(again) != 1 || len(again[port]) != 1 || again[port][0] != b {
		t.Fatalf("%v of %v, printed %q, is read as %v, %v", b, port, host+port.String(), again, err)
	}
}

func TestOwnersOfMounts(t *testing.T) {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	var c Container
	c.Add(f)
	err := f.Parse([]string{"--bind-owner", "/x=1", "--mount", "type=bind,src=/a,dst=/b,owner=5:6", "--mount", "type=bind,src=/a,dst=/c,owner=7", "--mount", "type=bind,src=/a,dst=/d"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Request("image", nil)
	if err != nil || len(r.HostConfig.Mounts) != 3 || r.HostConfig.Annotations["tare.bind-owner"] != "/x=1,/b=5:6,/c=7" {
		t.Errorf("%+v, %v", r.HostConfig, err)
	}
	for _, s := range []string{"type=volume,src=a,dst=/b,owner=5", "type=bind,src=/a,dst=/b,owner=", "type=bind,src=/a,dst=/b,owner"} {
		if err := new(Mounts).Set(s); err == nil {
			t.Errorf("%s is accepted", s)
		}
	}
}

func FuzzMountSpec(f *testing.F) {
	for _, s := range []string{"type=bind,src=/a,dst=/b,ro", "type=tmpfs,dst=/t,tmpfs-mode=777,tmpfs-size=1g", `"type=volume","dst=/a,b"`, "dst=/x,volume-opt=a=b", "type=bind,bind-recursive=readonly"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var m Mounts
		if m.Set(s) == nil && (m.Values[0].Target == "" || m.Values[0].Type == "") {
			t.Fatalf("%q: %+v", s, m)
		}
	})
}

func FuzzUlimit(f *testing.F) {
	for _, s := range []string{"nofile=1:2", "core=-1", "nproc=5", "x=1", "nofile=2:1", "nofile="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var u Ulimits
		if u.Set(s) != nil {
			return
		}
		if len(u.Values) != 1 || u.Values[0].Name == "" || u.Values[0].Soft > u.Values[0].Hard && u.Values[0].Hard != -1 {
			t.Fatalf("%q: %+v", s, u.Values)
		}
		var again Ulimits
		if err := again.Set(u.Values[0].String()); err != nil || *again.Values[0] != *u.Values[0] {
			t.Fatalf("%q is %v; printed it is %v, %v", s, u.Values[0], again.Values, err)
		}
	})
}

func FuzzDevice(f *testing.F) {
	for _, s := range []string{"/dev/null", "/dev/a:/dev/b", "/dev/a:rw", "/dev/a:/b:m", "/dev/a::r", ":/x:r", "a:b:c:d", "vendor.com/gpu=0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDevice(s)
		if err != nil {
			return
		}
		if !path.IsAbs(d.PathInContainer) || !deviceMode(d.CgroupPermissions) {
			t.Fatalf("%q: %+v", s, d)
		}
		text := d.PathOnHost + ":" + d.PathInContainer + ":" + d.CgroupPermissions
		if again, err := parseDevice(text); err != nil || again != d {
			t.Fatalf("%q is %+v; printed it is %+v, %v", s, d, again, err)
		}
	})
}

func FuzzEnvFile(f *testing.F) {
	for _, s := range []string{"A=b\n#c\nD", "\ufeffA=b", " =", "A\x00=b", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lines, err := ParseEnvFile(strings.NewReader(s), func(string) (string, bool) { return "", true })
		if err != nil {
			return
		}
		for _, l := range lines {
			if name, _, ok := strings.Cut(l, "="); !ok || name == "" || strings.ContainsAny(name, " \t") {
				t.Fatalf("%q gives %q", s, l)
			}
		}
	})
}

// TestExtensionsHaveFlags: each becomes its annotation as it stands; an engine
// says what is wrong with it.
func TestExtensionsHaveFlags(t *testing.T) {
	for _, x := range api.ExtensionTable {
		var c Container
		f := pflag.NewFlagSet("run", pflag.ContinueOnError)
		c.Add(f)
		if err := f.Parse([]string{"--annotation", "a=b", "--" + x.Name, "one", "--" + x.Name + "=two, or three"}); err != nil {
			t.Fatal(err)
		}
		req, err := c.Request("image", nil)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"a": "b", x.Annotation(): "two, or three"}
		if x.List {
			want[x.Annotation()] = "one,two, or three"
		}
		if got := req.HostConfig.Annotations; !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", x.Name, got, want)
		}
		if usage := f.Lookup(x.Name).Usage; usage != x.Usage {
			t.Errorf("%s: help says %q", x.Name, usage)
		}
	}
}

// A single letter before a colon is a drive of Windows to docker too.
func TestSplitVolumes(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{
		"/v": "", "v": "", "v:": "", ":v": "", "::": "", "v:/v": "", "v:v": "", "é:/v": "",
		"vv:/v": "vv:/v", "1:/v": "1:/v", "v:/v:ro": "v:/v:ro", "a::b": "a::b", "/a:b:/c": "/a:b:/c",
		"./a:/b": cwd + "/a:/b", ".a:/b": cwd + "/.a:/b", "..:/b": filepath.Dir(cwd) + ":/b",
	} {
		binds, anonymous, err := SplitVolumes([]string{spec})
		_, alone := anonymous[spec]
		if err != nil || alone != (want == "") || strings.Join(binds, " ") != want {
			t.Errorf("%s: %q, %v, %v", spec, binds, anonymous, err)
		}
	}
}
