package opts

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
)

// Add declares the flags of a container. The text of each says what it does
// to the container; where a value has a form, an example stands in it.
func (c *Container) Add(f *pflag.FlagSet) {
	c.flags = f
	c.addProcess(f)
	c.addResources(f)
	c.addDevices(f)
	c.addNetwork(f)
	c.addStorage(f)
	c.addSecurity(f)
	c.addHealth(f)
	c.addExtensions(f)
	c.addWindows(f)
}

func (c *Container) addProcess(f *pflag.FlagSet) {
	c.attach.Check = checkStream
	c.env.Check, c.labels.Check = CheckEnv, CheckLabel
	f.VarP(&c.attach, "attach", "a", "Attach to STDIN, STDOUT or STDERR only")
	f.Var(&c.annotations, "annotation", "Note for the OCI runtime, as key=value")
	CallValues(f, "map", "annotation")
	f.StringVar(&c.CIDFile, "cidfile", "", "Write the container's ID to this new file")
	f.StringVar(&c.entrypoint, "entrypoint", "", "Program to run instead of the image's ENTRYPOINT")
	f.VarP(&c.env, "env", "e", "Set environment variables; a NAME alone takes our own value")
	f.BoolVar(&c.envHost, "env-host", false, "Set all environment variables that we have")
	f.Var(&c.envFiles, "env-file", "Read environment variables from a file, NAME=value a line")
	f.StringVarP(&c.hostname, "hostname", "h", "", "Host name inside the container")
	f.StringVar(&c.domainname, "domainname", "", "NIS domain name inside the container")
	f.BoolVar(&c.init, "init", false, "Run a small init in the container that forwards signals and reaps processes")
	f.BoolVarP(&c.stdin, "interactive", "i", false, "Keep STDIN open")
	f.VarP(&c.labels, "label", "l", "Set a label, as key=value")
	f.Var(&c.labelFiles, "label-file", "Read labels from a file, key=value a line")
	f.StringVar(&c.logDriver, "log-driver", "", "Where the container's output is kept")
	f.Var(&c.logOptions, "log-opt", "Option of the log driver, such as max-size=10m")
	f.StringVar(&c.restart, "restart", "no", "What to do when the container exits (no, always, unless-stopped, on-failure[:N])")
	f.BoolVar(&c.autoRemove, "rm", false, "Remove the container and its anonymous volumes when it exits")
	f.StringVar(&c.runtime, "runtime", "", "OCI runtime to use")
	f.StringVar(&c.stopSignal, "stop-signal", "", "Signal that stops the container")
	f.IntVar(&c.stopTimeout, "stop-timeout", 0, "Seconds to wait for a stop before the container is killed")
	f.Var(&c.umask, "umask", "Umask of the container's processes, in octal, such as 0077")
	f.BoolVarP(&c.tty, "tty", "t", false, "Give the container a terminal")
	f.StringVarP(&c.user, "user", "u", "", "User to run as (<name|uid>[:<group|gid>])")
	f.StringVarP(&c.workdir, "workdir", "w", "", "Working directory inside the container")
}

func (c *Container) addResources(f *pflag.FlagSet) {
	f.Uint16Var(&c.blkioWeight, "blkio-weight", 0, "Share of block I/O, 10 to 1000, or 0 for the default")
	f.StringVar(&c.cgroupParent, "cgroup-parent", "", "Control group the container's own is made in")
	f.StringVar(&c.cgroupns, "cgroupns", "", "Control group namespace to use (host|private); the engine's default if empty")
	f.Int64Var(&c.cpuPeriod, "cpu-period", 0, "Length of a CPU quota's period in microseconds")
	f.Int64Var(&c.cpuQuota, "cpu-quota", 0, "CPU time in each period in microseconds")
	f.Int64Var(&c.rtPeriod, "cpu-rt-period", 0, "Length of a real-time period in microseconds")
	f.Int64Var(&c.rtRuntime, "cpu-rt-runtime", 0, "Real-time CPU time in each period in microseconds")
	f.Int64VarP(&c.cpuShares, "cpu-shares", "c", 0, "Share of CPU time beside other containers")
	f.Var(&c.cpus, "cpus", "Number of CPUs, such as 1.5")
	f.StringVar(&c.cpusetCpus, "cpuset-cpus", "", "CPUs the container may run on (0-3, 0,1)")
	f.StringVar(&c.cpusetMems, "cpuset-mems", "", "Memory nodes the container may use (0-3, 0,1)")
	f.Var(&c.kernelMemory, "kernel-memory", "Kernel memory limit")
	f.MarkDeprecated("kernel-memory", "and no longer supported by the kernel")
	f.VarP(&c.memory, "memory", "m", "Memory limit, such as 512m")
	f.Var(&c.reservation, "memory-reservation", "Memory the container gives back to when the host runs short")
	f.Var(&c.swap, "memory-swap", "Limit of memory and swap together; -1 for no limit of swap")
	f.Int64Var(&c.swappiness, "memory-swappiness", -1, "Readiness to swap (0 to 100)")
	f.BoolVar(&c.noOOMKill, "oom-kill-disable", false, "Do not kill the container when its memory runs out")
	f.IntVar(&c.oomScoreAdj, "oom-score-adj", 0, "Readiness of the host to kill the container (-1000 to 1000)")
	f.Int64Var(&c.pidsLimit, "pids-limit", 0, "Number of processes allowed (-1 for no limit)")
	f.Var(&c.ulimits, "ulimit", "Resource limit of each process, such as nofile=1024:2048")
}

func (c *Container) addDevices(f *pflag.FlagSet) {
	c.readBps.Bytes, c.writeBps.Bytes = true, true
	c.deviceRules.Check = checkDeviceRule
	f.Var(&c.weights, "blkio-weight-device", "Share of a device's I/O, as PATH:WEIGHT")
	f.Var(&c.devices, "device", "Add a device of the host, as HOST[:CONTAINER][:rwm]")
	f.Var(&c.deviceRules, "device-cgroup-rule", `Allow devices by number, such as "c 1:3 rw"`)
	f.Var(&c.readBps, "device-read-bps", "Bytes read a second from a device, as PATH:RATE")
	f.Var(&c.readIOps, "device-read-iops", "Reads a second from a device, as PATH:RATE")
	f.Var(&c.writeBps, "device-write-bps", "Bytes written a second to a device, as PATH:RATE")
	f.Var(&c.writeIOps, "device-write-iops", "Writes a second to a device, as PATH:RATE")
	f.Var(&c.gpus, "gpus", "GPUs to add ('all' for all of them)")
	f.Lookup("gpus").NoOptDefVal = ""
}

func (c *Container) addNetwork(f *pflag.FlagSet) {
	c.addHost.Check, c.links.Check = checkHost, checkLink
	c.dns.Check, c.dnsSearch.Check = checkAddress, checkSearch
	f.Var(&c.addHost, "add-host", "Add a host name to /etc/hosts, as NAME:ADDRESS")
	f.Var(&c.dns, "dns", "DNS server to ask")
	f.Var(&c.dnsOptions, "dns-opt", "Option of the resolver")
	f.MarkHidden("dns-opt")
	f.Var(&c.dnsOptions, "dns-option", "Option of the resolver")
	f.Var(&c.dnsSearch, "dns-search", "Domain to search host names in")
	f.Var(&c.expose, "expose", "Expose a port or a range of them to other containers")
	f.StringVar(&c.ip, "ip", "", "IPv4 address (e.g., 172.30.100.104)")
	f.StringVar(&c.ip6, "ip6", "", "IPv6 address (e.g., 2001:db8::33)")
	CallValues(f, "ip", "ip", "ip6")
	f.Var(&c.links, "link", "Make another container known by name, as NAME[:ALIAS]")
	f.Var(&c.linkLocal, "link-local-ip", "Link-local address")
	f.StringVar(&c.mac, "mac-address", "", "MAC address (e.g., 92:d0:c6:0a:29:33)")
	f.Var(&c.networks, "network", "Network to join (bridge, host, none, container:NAME, or one you made)")
	f.Var(&c.networks, "net", "Network to join")
	f.MarkHidden("net")
	f.Var(&c.aliases, "network-alias", "Another name of the container in its network")
	f.Var(&c.aliases, "net-alias", "Another name of the container in its network")
	f.MarkHidden("net-alias")
	f.VarP(&c.publish, "publish", "p", "Publish a port, as [[ADDRESS:]HOST:]CONTAINER[/udp]")
	f.BoolVarP(&c.publishAll, "publish-all", "P", false, "Publish all exposed ports on free ports of the host")
}

func (c *Container) addStorage(f *pflag.FlagSet) {
	f.Var(&c.mounts, "mount", "Mount something, such as type=bind,src=/data,dst=/data,readonly")
	f.BoolVar(&c.readOnly, "read-only", false, "Make the container's root file system read-only")
	f.Var(&c.shmSize, "shm-size", "Size of /dev/shm")
	f.Var(&c.storageOpt, "storage-opt", "Option of the storage driver")
	f.Var(&c.tmpfs, "tmpfs", "Mount an empty tmpfs, as PATH[:OPTIONS]")
	f.VarP(&c.volumes, "volume", "v", "Mount a directory of the host or a volume, as SOURCE:PATH[:ro]")
	f.StringVar(&c.volumeDriver, "volume-driver", "", "Driver of new volumes")
	f.Var(&c.volumesFrom, "volumes-from", "Mount the volumes of another container, as NAME[:ro]")
	f.BoolVar(&c.useAPISocket, "use-api-socket", false, "Give the container the engine's socket")
	f.MarkHidden("use-api-socket")
}

func (c *Container) addSecurity(f *pflag.FlagSet) {
	f.Var(&c.capAdd, "cap-add", "Add a Linux capability")
	f.Var(&c.capDrop, "cap-drop", "Drop a Linux capability")
	f.Var(&c.groupAdd, "group-add", "Add a group to the user's own")
	f.StringVar(&c.ipc, "ipc", "", "IPC namespace to use (private, shareable, host, container:NAME, none)")
	f.StringVar(&c.pid, "pid", "", "PID namespace to use (host, container:NAME)")
	f.BoolVar(&c.privileged, "privileged", false, "Give the container nearly all rights of the host")
	f.Var(&c.securityOpt, "security-opt", "Security option, such as no-new-privileges or seccomp=FILE")
	c.sysctls.Check = checkSysctl
	f.Var(&c.sysctls, "sysctl", "Kernel parameter of the container's namespaces, as name=value")
	f.StringVar(&c.userns, "userns", "", "User namespace to use")
	f.StringVar(&c.uts, "uts", "", "UTS namespace to use (host)")
}

func (c *Container) addHealth(f *pflag.FlagSet) {
	h := &c.health
	f.StringVar(&h.command, "health-cmd", "", "Command that tells whether the container is healthy")
	f.StringVar(&h.file, "health-file", "", "Healthy while this file of the container is there; the engine looks itself")
	f.StringVar(&h.grpc, "health-grpc", "", "Healthy while grpc.health.v1 at HOST:PORT[/SERVICE] in the container says SERVING")
	f.StringVar(&h.http, "health-http", "", "Healthy while this URL in the container's network answers 2xx or 3xx")
	f.StringVar(&h.tcp, "health-tcp", "", "Healthy while HOST:PORT in the container's network accepts a connection")
	f.DurationVar(&h.interval, "health-interval", 0, "Time between checks (ms|s|m|h)")
	f.IntVar(&h.retries, "health-retries", 0, "Failures in a row that make it unhealthy")
	f.DurationVar(&h.startInterval, "health-start-interval", 0, "Time between checks while it starts (ms|s|m|h)")
	f.DurationVar(&h.startPeriod, "health-start-period", 0, "Time to start in, in which failures do not count (ms|s|m|h)")
	f.DurationVar(&h.timeout, "health-timeout", 0, "Time a check may take (ms|s|m|h)")
	f.BoolVar(&h.none, "no-healthcheck", false, "Do not run the image's HEALTHCHECK")
}

// addWindows declares what only engines on Windows heed.
func (c *Container) addWindows(f *pflag.FlagSet) {
	f.Int64Var(&c.cpuCount, "cpu-count", 0, "CPU count (Windows only)")
	f.Int64Var(&c.cpuPercent, "cpu-percent", 0, "CPU percent (Windows only)")
	f.Var(&c.ioBandwidth, "io-maxbandwidth", "I/O limit of the system drive in bytes a second (Windows only)")
	f.Uint64Var(&c.ioIOps, "io-maxiops", 0, "I/O limit of the system drive in operations a second (Windows only)")
	f.StringVar(&c.isolation, "isolation", "", "Isolation technology (Windows only)")
	for _, name := range []string{"cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "isolation"} {
		f.MarkHidden(name)
	}
}

func checkStream(s string) (string, error) {
	switch low := strings.ToLower(s); low {
	case "stdin", "stdout", "stderr":
		return low, nil
	}
	return "", errors.New("valid streams are STDIN, STDOUT and STDERR")
}

// checkHost is the check of --add-host: name:address or name=address, and
// "host-gateway" for an address the engine knows.
func checkHost(s string) (string, error) {
	name, addr, ok := strings.Cut(s, "=")
	if !ok {
		name, addr, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" {
		return "", fmt.Errorf("bad format for add-host: %q", s)
	}
	if strings.HasPrefix(addr, "[") && strings.HasSuffix(addr, "]") {
		addr = addr[1 : len(addr)-1]
	}
	if _, err := netip.ParseAddr(addr); err != nil && addr != "host-gateway" {
		return "", fmt.Errorf("invalid IP address in add-host: %q", addr)
	}
	return name + ":" + addr, nil
}

func checkLink(s string) (string, error) {
	if parts := strings.Split(s, ":"); s == "" || len(parts) > 2 {
		return "", fmt.Errorf("bad format for links: %s", s)
	}
	return s, nil
}

func checkAddress(s string) (string, error) {
	ip, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return "", fmt.Errorf("IP address is not correctly formatted: %s", s)
	}
	return ip.String(), nil
}

// checkSearch is the check of --dns-search; "." asks for no domain at all.
func checkSearch(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "." {
		return s, nil
	}
	domain := strings.TrimSuffix(s, ".")
	if domain == "" || len(domain) > 255 {
		return "", fmt.Errorf("%s is not a valid domain", s)
	}
	for _, label := range strings.Split(domain, ".") {
		if label == "" || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", fmt.Errorf("%s is not a valid domain", s)
		}
	}
	return s, nil
}
