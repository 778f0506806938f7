package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/network/ipam"
	"github.com/tare-engine/tare/internal/runtime/external"
)

// defaultConfigFile need not exist; one that is named must.
const defaultConfigFile = "/etc/tare/daemon.json"

// Config holds the settings of the engine: from flags, and from the
// configuration file for those that no flag gives.
type Config struct {
	Hosts         []string // of unix://, tcp:// and fd://; never empty
	TLSVerify     bool
	TLSCACert     string
	TLSCert       string
	TLSKey        string
	InsecureTCP   bool
	DataRoot      string
	ExecRoot      string
	ConfigFile    string
	PIDFile       string // empty: none
	Debug         bool
	LogLevel      string
	LogFormat     string
	Group         string
	MetricsAddr   string // empty: none
	AuthzPlugins  []string
	Containers    containerConfig
	TLS           bool
	NoMasquerade  bool
	Validate      bool
	BIP           netip.Prefix // the zero value: the network chooses
	IPv6          string       // of the default network: true, false or auto
	FixedCIDR6    netip.Prefix // its subnet; zero: chosen
	Bridge        string
	MTU           uint // of containers' links; 0: Ethernet's
	ICC           bool // containers of the default network may reach each other
	UserlandProxy bool
	PublishIP     netip.Addr // where ports are published that name no address; zero: everywhere
	Integrate     bool       // other programs' firewall rules are made to accept containers' packets
	HostGateways  []string   // what host-gateway of --add-host stands for, one at most; none: the default network's gateway
	HostNames     netip.Addr // where the host's programs find containers as NAME.tare; zero: nowhere
	Pools         []ipam.Range
	NetworkOpts   map[string]map[string]string // of networks that do not say otherwise, by driver
	DNS           []string                     // of containers that name none, as the next two
	DNSSearch     []string
	DNSOptions    []string
	StorageDriver string   // empty: the one that has layers, else the first that works
	StorageOpts   []string // KEY=VALUE, of the storage driver
	Labels        []string // KEY=VALUE, of the engine
	CDIDirs       []string
	Runtimes      []external.Runtime
	DefaultRun    string   // runtime of containers that name none; empty: ours
	ExecOpts      []string // KEY=VALUE
	UsernsRemap   string   // empty: containers have the host's ids
	UsernsRange   string   // of containers with a range of their own; empty: the default
	Registries    registryConfig
	ImageCap      byteSize // that images may take; 0: as much as there is
	Builder       builderConfig
	Uninstall     bool
	ShowVersion   bool

	args []string // the command line, for reload
}

// defaultGroup may be absent on a host; another group must exist.
const defaultGroup = "docker"

func defaultConfig() *Config {
	return &Config{
		DataRoot:      "/var/lib/tare",
		ExecRoot:      "/run/tare",
		ConfigFile:    defaultConfigFile,
		LogLevel:      "info",
		LogFormat:     "text",
		Group:         defaultGroup,
		Containers:    defaultContainerConfig(),
		IPv6:          "false",
		Bridge:        "tare0",
		ICC:           true,
		UserlandProxy: true,
		Registries:    defaultRegistryConfig(),
	}
}

// option is one setting: its flag, and its key in the configuration file. Most
// have the same name in both.
type option struct {
	flag, short string
	key         string // empty: only a flag
	usage       string
	value       pflag.Value
}

// options are all settings of c. Keys and flags are dockerd's where it has the
// setting.
func (c *Config) options() []option {
	return slices.Concat(c.engineOptions(), c.Containers.options(), c.Registries.options(), []option{
		{"uninstall", "", "", "remove the links, rules and cgroups of this engine, which must not be running, and exit", (*boolValue)(&c.Uninstall)},
		{"validate", "", "", "say what is wrong with the configuration, and exit", (*boolValue)(&c.Validate)},
		{"version", "v", "", "print the version and exit", (*boolValue)(&c.ShowVersion)},
	}, absentOptions())
}

func (c *Config) engineOptions() []option {
	return []option{
		{"host", "H", "hosts", "`address` to listen on: unix://PATH, tcp://HOST:PORT, or fd:// for systemd's sockets; several may be given", &listValue{list: &c.Hosts, check: checkHost}},
		{"tls", "", "tls", "serve tcp with TLS, of tlscert; who may call is said by tlsverify or insecure-tcp", (*boolValue)(&c.TLS)},
		{"tlsverify", "", "tlsverify", "serve tcp with TLS, only to clients with a certificate of --tlscacert", (*boolValue)(&c.TLSVerify)},
		{"tlscacert", "", "tlscacert", "`file` with the certificates that sign clients' certificates", textValue{&c.TLSCACert, checkPath}},
		{"tlscert", "", "tlscert", "`file` with the engine's certificate", textValue{&c.TLSCert, checkPath}},
		{"tlskey", "", "tlskey", "`file` with the key of the engine's certificate", textValue{&c.TLSKey, checkPath}},
		{"insecure-tcp", "", "insecure-tcp", "serve tcp to clients without a certificate: whoever reaches the port is root on this machine", (*boolValue)(&c.InsecureTCP)},
		{"data-root", "", "data-root", "`directory` of images, containers and volumes", textValue{&c.DataRoot, checkRoot}},
		{"exec-root", "", "exec-root", "`directory` of what does not outlive a reboot", textValue{&c.ExecRoot, checkRoot}},
		{"config-file", "", "", "`file` with settings as JSON; SIGHUP reads it again", textValue{&c.ConfigFile, nil}},
		{"image-cap", "", "image-cap", "`bytes` that images may take, such as 20GB: those that were not used for longest go when more come; 0 is no cap", &c.ImageCap},
		{"build-cache-cap", "", "build-cache-cap", "`bytes` that the cache of builds may take, such as 20GB or 10%: what is easily had again goes first", spaceValue{&c.Builder.Cap}},
		{"builder", "", "builder", "`object` of dockerd's daemon.json for builds, such as {\"gc\": {\"defaultMaxUsedSpace\": \"20GB\"}}", builderValue{&c.Builder}},
		{"pidfile", "p", "pidfile", "`file` to write the process id to", textValue{&c.PIDFile, checkPath}},
		{"debug", "D", "debug", "log what happens in detail", (*boolValue)(&c.Debug)},
		{"log-level", "l", "log-level", "`level` of the log: debug, info, warn, error or fatal", textValue{&c.LogLevel, oneOf("debug", "info", "warn", "error", "fatal")}},
		{"log-format", "", "log-format", "`format` of the log: text or json", textValue{&c.LogFormat, oneOf("text", "json")}},
		{"authorization-plugin", "", "authorization-plugins", "`plugin` that is asked whether each request may pass; several may be given", &listValue{list: &c.AuthzPlugins, check: checkWord}},
		{"metrics-addr", "", "metrics-addr", "`address` and port where Prometheus finds /metrics, such as 127.0.0.1:9323", textValue{&c.MetricsAddr, checkMetricsAddr}},
		{"group", "G", "group", "`group` that may use the unix sockets", textValue{&c.Group, nil}},
		{"bip", "", "bip", "`address` with prefix length of the default network's gateway, such as 172.17.0.1/16", (*prefixValue)(&c.BIP)},
		{"bridge", "b", "bridge", "`name` of the default network's link, which the engine makes, or none", textValue{&c.Bridge, checkLink}},
		{"ipv6", "", "ipv6", "containers of the default network have IPv6: true, false, or `auto`, which is true if the host has a way out by it", (*autoValue)(&c.IPv6)},
		{"fixed-cidr-v6", "", "fixed-cidr-v6", "IPv6 `subnet` of the default network, such as 2001:db8:1::/64; one of unique local addresses if none is given", (*prefix6Value)(&c.FixedCIDR6)},
		{"default-address-pool", "", "default-address-pools", "where subnets of networks come from that nobody has named: `base=SUBNET,size=BITS`; several may be given, of IPv4 and IPv6", poolsValue{&c.Pools}},
		{"default-network-opt", "", "default-network-opts", "option of the driver for networks that do not say otherwise, but the default one: `DRIVER=NAME=VALUE`; several may be given", networkOptsValue{&c.NetworkOpts}},
		{"mtu", "", "mtu", "largest packet of the default network, in `bytes`", (*mtuValue)(&c.MTU)},
		{"icc", "", "icc", "containers of the default network may reach each other", (*boolValue)(&c.ICC)},
		{"ip-masq", "", "ip-masq", "containers of the default network go out with the host's address", (*notValue)(&c.NoMasquerade)},
		{"ip", "", "ip", "`address` of the host where ports are published that name none", (*addrValue)(&c.PublishIP)},
		{"userland-proxy", "", "userland-proxy", "serve published ports to clients on ::1, and to those of a family of addresses that the container has not, by carrying what they send", (*boolValue)(&c.UserlandProxy)},
		{"firewall-integration", "", "firewall-integration", "add rules to other programs' firewall chains that would drop forwarded packets of containers, and take them back without it", (*boolValue)(&c.Integrate)},
		{"host-gateway-ip", "", "host-gateway-ips", "IPv4 `address` that host-gateway stands for in --add-host", &listValue{list: &c.HostGateways, check: checkIPv4}},
		{"host-names", "", "host-names", "`address` of the host, such as 127.0.0.12, where its programs find containers as NAME.tare, by DNS; for a resolver that is told to ask there", (*addrValue)(&c.HostNames)},
		{"dns", "", "dns", "`address` of a name server for containers that name none; several may be given", &listValue{list: &c.DNS, check: checkAddr}},
		{"dns-search", "", "dns-search", "`domain` to search for containers that name none; several may be given", &listValue{list: &c.DNSSearch, check: checkWord}},
		{"dns-opt", "", "dns-opts", "`option` of resolv.conf for containers that name none; several may be given", &listValue{list: &c.DNSOptions, check: checkWord}},
		{"storage-driver", "s", "storage-driver", "`driver` of the layers: " + strings.Join(driverNames(), " or ") + "; without it the one that was used before, else the first of these that works", textValue{&c.StorageDriver, checkDriver}},
		{"storage-opt", "", "storage-opts", "`KEY=VALUE` for the storage driver: overlay.size=SIZE and overlay.metacopy=on, btrfs.min_space=SIZE, size=SIZE of vfs, or dm.basesize=SIZE and others of devicemapper; several may be given", &listValue{list: &c.StorageOpts, check: checkStorageOpt}},
		{"label", "", "labels", "`KEY=VALUE` that docker info shows of this engine; several may be given", &listValue{list: &c.Labels, check: checkLabel}},
		{"cdi-spec-dir", "", "cdi-spec-dirs", "`directory` with descriptions of devices (CDI), for --device vendor.com/class=name; several may be given", &listValue{list: &c.CDIDirs, check: checkPath}},
		{"add-runtime", "", "runtimes", "register an OCI runtime by its command line: `NAME=PATH`, for --runtime NAME; several may be given", runtimesValue{&c.Runtimes}},
		{"default-runtime", "", "default-runtime", "`name` of the runtime of containers that name none", textValue{&c.DefaultRun, nil}},
		{"exec-opt", "", "exec-opts", "`OPTION=VALUE` of how containers run: native.cgroupdriver=systemd has systemd make their cgroups, native.cgroupdriver=cgroupfs (the default) the engine", &listValue{list: &c.ExecOpts, check: checkExecOpt}},
		{"userns-remap", "", "userns-remap", "`user` whose ranges in /etc/subuid and /etc/subgid are the ids of containers: default (dockremap), USER[:GROUP] or UID[:GID]", textValue{&c.UsernsRemap, nil}},
		{"userns-auto-range", "", "userns-auto-range", "`ids` of the host for containers with --userns=auto, which have a range each: START:SIZE, or the user whose ranges they are (default: user tare's, or 1073741824:805306368)", textValue{&c.UsernsRange, nil}},
	}
}

// parseArgs reads the command line and the configuration file. It returns
// pflag.ErrHelp after printing the help to stderr.
func parseArgs(args []string, stderr io.Writer) (*Config, error) {
	c := defaultConfig()
	c.args = slices.Clone(args)
	set := pflag.NewFlagSet("tared", pflag.ContinueOnError)
	set.SetOutput(stderr)
	set.SortFlags = false
	set.Usage = func() {
		_, _ = fmt.Fprintf(stderr, "Usage: tared [OPTIONS]\n\nThe Tare container engine.\n\nOptions:\n%s", set.FlagUsages())
	}
	options := c.options()
	for _, o := range options {
		if o.flag == "" {
			continue
		}
		f := set.VarPF(o.value, o.flag, o.short, o.usage)
		if t := o.value.Type(); t == boolType || t == autoType {
			f.NoOptDefVal = "true"
		}
		if a, ok := o.value.(absentValue); ok {
			f.Hidden = true
			if slices.Contains(a.always, "true") || slices.Contains(a.always, "false") {
				f.NoOptDefVal = "true"
			}
		}
	}
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	if c.ShowVersion {
		return c, nil
	}
	if err := c.readFile(options, set); err != nil {
		return nil, err
	}
	if len(c.Hosts) == 0 {
		c.Hosts = []string{"unix://" + c.ExecRoot + "/tared.sock"}
	}
	if len(c.CDIDirs) == 0 {
		c.CDIDirs = spec.DefaultCDIDirs()
	}
	return c, c.check()
}

// systemdGroups reports whether systemd makes the containers' control groups.
func (c *Config) systemdGroups() bool { return slices.Contains(c.ExecOpts, cgroupDriver+"=systemd") }

// check is for what no single setting shows.
func (c *Config) check() error {
	if len(c.HostGateways) > 1 {
		return errors.New("host-gateway-ip: one IPv4 address can be given")
	}
	if err := uniqueKeys(c.Labels); err != nil {
		return err
	}
	if err := c.Builder.check(); err != nil {
		return err
	}
	if len(c.ExecOpts) > 1 {
		return fmt.Errorf("exec-opts: %s is given twice", cgroupDriver)
	}
	if c.FixedCIDR6.IsValid() && c.IPv6 == "false" {
		return errors.New("fixed-cidr-v6 needs ipv6")
	}
	if c.TLSVerify && (c.TLSCACert == "" || c.TLSCert == "" || c.TLSKey == "") {
		return errors.New("tlsverify needs tlscacert, tlscert and tlskey")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("tlscert and tlskey need each other")
	}
	for _, h := range c.Hosts {
		if strings.HasPrefix(h, "tcp://") && !c.TLSVerify && !c.InsecureTCP {
			return fmt.Errorf("host %s: %w", h, errInsecureTCP)
		}
	}
	if err := c.Containers.check(); err != nil {
		return err
	}
	if c.TLS && c.TLSCert == "" {
		return errors.New("tls needs tlscert and tlskey")
	}
	if c.DataRoot == c.ExecRoot {
		return fmt.Errorf("data-root and exec-root are both %s", c.DataRoot)
	}
	return nil
}

var errInsecureTCP = errors.New("whoever reaches a tcp port without client certificates is root on this machine: give --tlsverify with --tlscacert, --tlscert and --tlskey, or --insecure-tcp")
