package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// dockerdFlags are those of dockerd 29, of 28 and what both read from daemon.json only.
const dockerdFlags = "add-runtime allow-direct-routing allow-nondistributable-artifacts api-cors-header authorization-plugin bip bip6 bridge bridge-accept-fwmark " +
	"cdi-spec-dir cgroup-parent config-file containerd containerd-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime cri-containerd data-root debug " +
	"default-address-pool default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-network-opt default-runtime default-shm-size default-ulimit " +
	"dns dns-opt dns-search exec-opt exec-root experimental feature firewall-backend fixed-cidr fixed-cidr-v6 group host host-gateway-ip http-proxy https-proxy icc init " +
	"init-path insecure-registry ip ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 label live-restore log-driver log-format log-level log-opt " +
	"max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr mtu network-control-plane-mtu network-diagnostic-port no-new-privileges no-proxy " +
	"node-generic-resource nri-opts pidfile raw-logs registry-mirror restart rootless seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opt " +
	"swarm-default-advertise-addr tls tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap validate version"

const dockerdKeys = "allow-direct-routing allow-nondistributable-artifacts api-cors-header authorization-plugins bip bip6 bridge builder cdi-spec-dirs cgroup-parent containerd containerd-namespace " +
	"containerd-plugin-namespace cpu-rt-period cpu-rt-runtime cri-containerd data-root debug default-address-pools default-cgroupns-mode default-gateway default-gateway-v6 " +
	"default-init default-ipc-mode default-network-opts default-runtime default-shm-size default-ulimits dns dns-opts dns-search exec-opts exec-root experimental features " +
	"firewall-backend fixed-cidr fixed-cidr-v6 group host-gateway-ips hosts http-proxy https-proxy icc init init-path insecure-registries ip ip-forward ip-forward-no-drop ip-masq " +
	"ip6tables iptables ipv6 labels live-restore log-driver log-format log-level log-opts max-concurrent-downloads max-concurrent-uploads max-download-attempts " +
	"metrics-addr mtu network-control-plane-mtu network-diagnostic-port network-host no-new-privileges no-proxy node-generic-resources pidfile raw-logs registry-mirrors " +
	"resolv-conf rootless runtimes seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opts swarm-default-advertise-addr " +
	"swarm-raft-election-tick swarm-raft-heartbeat-tick tls tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap"

// TestEveryFlagAndKeyOfDockerd is meant here, or refused by name with the reason; and all of
// ours are in the document.
func TestEveryFlagAndKeyOfDockerd(t *testing.T) {
	b, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(b)
	flags, keys := map[string]option{}, map[string]option{}
	for _, o := range defaultConfig().options() {
		flags[o.flag], keys[o.key] = o, o
		if o.flag != "" && !strings.Contains(document, "`--"+o.flag+"`") || o.flag == "" && !strings.Contains(document, "`"+o.key+"`") {
			t.Errorf("docs/configuration.md has no %s", o.flag+" "+o.key)
		}
		if _, ok := o.value.(absentValue); !ok && o.key != "" && o.key != o.flag && !strings.Contains(document, "`"+o.key+"`") {
			t.Errorf("docs/configuration.md has no key %s", o.key)
		}
	}
	for name := range strings.FieldsSeq(dockerdFlags) {
		if _, ok := flags[name]; !ok {
			t.Errorf("--%s is not known", name)
		}
	}
	for name := range strings.FieldsSeq(dockerdKeys) {
		if _, ok := keys[name]; !ok && name != "proxies" {
			t.Errorf("the key %s is not known", name)
		}
	}
	for _, a := range absents {
		if a.flag != "" && !slices.Contains(strings.Fields(dockerdFlags), a.flag) {
			t.Errorf("--%s is no flag of dockerd's", a.flag)
		}
		if !strings.Contains(document, a.why) {
			t.Errorf("docs/configuration.md does not say of %s: %s", a.name(), a.why)
		}
		if a.flag != "" {
			if _, err := parse(t, "--"+a.flag+"=nonsense"); err == nil || !strings.Contains(err.Error(), a.flag) || !strings.Contains(err.Error(), a.why) {
				t.Errorf("--%s=nonsense: %v", a.flag, err)
			}
		}
		key := keys[a.key].key
		if key == "" {
			key = a.flag
		}
		for value, taken := range map[string]bool{`"nonsense"`: false, `["nonsense"]`: false, `{"nonsense": true}`: false, "true": slices.Contains(a.always, "true"), "false": slices.Contains(a.always, "false")} {
			_, err := parse(t, "--config-file="+configFileWith(t, `{"`+key+`": `+value+`}`))
			if taken != (err == nil) || err != nil && (!strings.Contains(err.Error(), `"`+key+`"`) || !strings.Contains(err.Error(), a.why)) {
				t.Errorf("the key %s: %s: %v", key, value, err)
			}
		}
	}
}

func TestWhatIsAlwaysSoMayBeSaid(t *testing.T) {
	for _, args := range [][]string{{"--live-restore"}, {"--iptables"}, {"--iptables=true", "--ip6tables=true", "--ip-forward"}, {"--experimental=false"}, {"--feature=buildkit"}, {"--firewall-backend=nftables"}, {"--raw-logs"}} {
		if _, err := parse(t, args...); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	for text, good := range map[string]bool{
		`{"features": {"buildkit": true, "cdi": true, "containerd-snapshotter": false}, "live-restore": true, "iptables": true}`: true,
		`{"features": {"buildkit": false}}`: false, `{"features": {"containerd-snapshotter": true}}`: false, `{"live-restore": false}`: false,
	} {
		if _, err := parse(t, "--config-file="+configFileWith(t, text)); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestContainerDefaults(t *testing.T) {
	profile := configFileWith(t, `{"defaultAction": "SCMP_ACT_ALLOW"}`)
	c, err := parse(t, "--config-file="+configFileWith(t, `{"log-driver": "local", "log-opts": {"max-size": "1m"}, "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 10, "Hard": 20}},
		"default-shm-size": "1m", "default-ipc-mode": "shareable", "default-cgroupns-mode": "host", "cgroup-parent": "/mine", "init": true, "no-new-privileges": true, "seccomp-profile": "`+profile+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	d := c.Containers.defaults()
	if d.Log.Type != "local" || d.Log.Config["max-size"] != "1m" || len(d.Ulimits) != 1 || d.Ulimits[0].String() != "nofile=10:20" || d.ShmSize != 1<<20 ||
		d.IpcMode != "shareable" || d.CgroupnsMode != "host" || d.CgroupParent != "/mine" || !d.Init || !d.NoNewPrivileges || !strings.Contains(d.Seccomp, "SCMP_ACT_ALLOW") {
		t.Errorf("%+v", d)
	}
	for _, bad := range []string{"--log-driver=splunk", "--log-driver=x", "--log-opt=max-size=x", "--log-opt=x=1", "--log-opt=x", "--default-ulimit=nofile", "--default-ulimit=x=1", "--default-ulimit=nofile=3:2",
		"--default-shm-size=x", "--default-ipc-mode=host", "--default-cgroupns-mode=x", "--init-path=/nosuch", "--init-path=x", "--seccomp-profile=/nosuch", "--seccomp-profile=x",
		"--metrics-addr=9323", "--metrics-addr=:x", "--authorization-plugin=", "--tls"} {
		if _, err := parse(t, bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	for _, bad := range []string{`{"log-opts": {"max-size": 1}}`, `{"log-opts": []}`, `{"default-ulimits": {"nofile": {"Soft": 1}}}`, `{"default-ulimits": {"nofile": {"Name": "core", "Soft": 1, "Hard": 2}}}`,
		`{"default-ulimits": {"x": {"Soft": 1, "Hard": 2}}}`, `{"seccomp-profile": "` + configFileWith(t, "{") + `"}`} {
		if _, err := parse(t, "--config-file="+configFileWith(t, bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if n := networkConfig(c, "12345678"); n.NoMasquerade {
		t.Error("containers of the default network keep their addresses")
	}
	c, err = parse(t, "--ip-masq=false")
	if n := networkConfig(c, "12345678"); err != nil || !n.NoMasquerade {
		t.Error(n.NoMasquerade, err)
	}
}
