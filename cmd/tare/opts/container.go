package opts

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"

	"github.com/tare-engine/tare/api"
)

// Container holds the flags that describe a container, shared by run and
// create. Add declares them, Request makes the engine's configuration of them.
//
// A flag fills a field and nothing else happens here: an engine that cannot
// do what the field asks for says so.
type Container struct {
	flags *pflag.FlagSet

	attach, addHost, annotations            List
	capAdd, capDrop                         List
	deviceRules, devices                    List
	dns, dnsOptions, dnsSearch              List
	env, envFiles, labels, labelFiles       List
	envHost                                 bool
	expose, publish                         List
	groupAdd, links, linkLocal, aliases     List
	logOptions, securityOpt, storageOpt     List
	tmpfs, volumes, volumesFrom             List
	sysctls                                 Map
	mounts                                  Mounts
	networks                                Networks
	ulimits                                 Ulimits
	gpus                                    GPUs
	weights                                 Weights
	readBps, writeBps, readIOps, writeIOps  Throttles
	memory, reservation, kernelMemory       Bytes
	shmSize, ioBandwidth                    Bytes
	swap                                    Swap
	cpus                                    NanoCPUs
	blkioWeight                             uint16
	cpuCount, cpuPercent, cpuPeriod         int64
	cpuQuota, rtPeriod, rtRuntime           int64
	cpuShares, swappiness, pidsLimit        int64
	ioIOps                                  uint64
	oomScoreAdj, stopTimeout                int
	cpusetCpus, cpusetMems, cgroupParent    string
	cgroupns, ipc, pid, uts, userns         string
	hostname, domainname, mac, ip, ip6      string
	entrypoint, user, workdir, stopSignal   string
	restart, runtime, isolation             string
	logDriver, volumeDriver                 string
	umask                                   Umask
	health                                  health
	extensions                              []*extension
	useAPISocket                            bool
	init, noOOMKill, privileged, publishAll bool
	readOnly, stdin, tty, autoRemove        bool

	// CIDFile is where the id of the new container is written.
	CIDFile string
}

// Request is what Container makes: the body of a create request.
func (c *Container) Request(image string, args []string) (container.CreateRequest, error) {
	if err := c.validate(); err != nil {
		return container.CreateRequest{}, err
	}
	config, err := c.config(image, args)
	if err != nil {
		return container.CreateRequest{}, err
	}
	host, err := c.hostConfig()
	if err != nil {
		return container.CreateRequest{}, err
	}
	if err := c.ports(config, host); err != nil {
		return container.CreateRequest{}, err
	}
	var binds []string
	if binds, config.Volumes, err = SplitVolumes(c.volumes.Values); err != nil {
		return container.CreateRequest{}, err
	}
	host.Binds = binds
	net, err := c.networking()
	if err != nil {
		return container.CreateRequest{}, err
	}
	return container.CreateRequest{Config: config, HostConfig: host, NetworkingConfig: net}, nil
}

// Attached reports whether -a was given.
func (c *Container) Attached() bool { return len(c.attach.Values) > 0 }

// validate refuses flags that do not go together.
func (c *Container) validate() error {
	if c.swappiness != -1 && (c.swappiness < 0 || c.swappiness > 100) {
		return fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", c.swappiness)
	}
	switch {
	case !container.PidMode(c.pid).Valid():
		return errors.New("--pid: invalid PID mode")
	case !container.UTSMode(c.uts).Valid():
		return errors.New("--uts: invalid UTS mode")
	case c.userns != "auto" && !strings.HasPrefix(c.userns, "auto:size=") && !strings.HasPrefix(c.userns, "container:") && !container.UsernsMode(c.userns).Valid():
		return errors.New("--userns: invalid USER mode")
	case !container.CgroupnsMode(c.cgroupns).Valid():
		return errors.New("--cgroupns: invalid CGROUP mode")
	case c.useAPISocket:
		return errors.New("--use-api-socket is not offered: bind the socket with --volume instead")
	}
	return nil
}

// config makes the part of the configuration that an image can give as well.
func (c *Container) config(image string, args []string) (*container.Config, error) {
	env, err := ReadEnvFiles(c.envFiles.Values, c.env.Values)
	if err != nil {
		return nil, err
	}
	if c.envHost { // what is set by name comes behind, and wins
		env = append(os.Environ(), env...)
	}
	labels, err := ReadLabelFiles(c.labelFiles.Values, c.labels.Values)
	if err != nil {
		return nil, err
	}
	check, err := c.health.config()
	if err != nil {
		return nil, err
	}
	config := &container.Config{
		Hostname: c.hostname, Domainname: c.domainname, User: c.user, WorkingDir: c.workdir,
		Tty: c.tty, OpenStdin: c.stdin,
		AttachStdin: c.stdin || c.attached("stdin"), AttachStdout: c.attached("stdout"), AttachStderr: c.attached("stderr"),
		Env: env, Cmd: args, Image: image, Labels: pairs(labels), Healthcheck: check, StopSignal: c.stopSignal,
	}
	if len(args) == 0 {
		config.Cmd = nil // inspect tells null from []
	}
	if len(c.attach.Values) == 0 {
		config.AttachStdout, config.AttachStderr = true, true
	}
	// The client that is attached is the only one to give input: its end is
	// the input's end.
	config.StdinOnce = config.OpenStdin && config.AttachStdin
	if c.flags.Changed("entrypoint") {
		config.Entrypoint = []string{c.entrypoint} // "" is the image's entrypoint taken away
	}
	if c.flags.Changed("stop-timeout") {
		config.StopTimeout = &c.stopTimeout
	}
	return config, nil
}

func (c *Container) attached(stream string) bool {
	for _, s := range c.attach.Values {
		if s == stream {
			return true
		}
	}
	return false
}

// annotated are the annotations, with those that stand for options of Tare.
func (c *Container) annotated() map[string]string {
	all := pairs(c.annotations.Values)
	for _, x := range c.extensions {
		if x.given {
			all[x.Annotation()] = x.value
		}
	}
	if len(c.mounts.Owners) > 0 {
		key := api.ExtensionPrefix + "bind-owner"
		owners := c.mounts.Owners
		if all[key] != "" {
			owners = append([]string{all[key]}, owners...)
		}
		all[key] = strings.Join(owners, ",")
	}
	return all
}

// hostConfig makes the part of the configuration that is about this host.
func (c *Container) hostConfig() (*container.HostConfig, error) {
	restart, err := ParseRestart(c.restart)
	if err != nil {
		return nil, err
	}
	if c.autoRemove && !restart.IsNone() {
		return nil, errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	security, unmasked, err := securityOpts(c.securityOpt.Values)
	if err != nil {
		return nil, err
	}
	logging, err := c.logConfig()
	if err != nil {
		return nil, err
	}
	storage, err := storageOpts(c.storageOpt.Values)
	if err != nil {
		return nil, err
	}
	resources, err := c.resources()
	if err != nil {
		return nil, err
	}
	dns, err := addresses(c.dns.Values)
	if err != nil {
		return nil, err
	}
	h := &container.HostConfig{
		ContainerIDFile: c.CIDFile, LogConfig: logging, NetworkMode: container.NetworkMode(c.networks.Mode()),
		RestartPolicy: restart, AutoRemove: c.autoRemove, VolumeDriver: c.volumeDriver, VolumesFrom: c.volumesFrom.Values,
		Annotations: c.annotated(),
		CapAdd:      capabilities(c.capAdd.Values), CapDrop: capabilities(c.capDrop.Values), CgroupnsMode: container.CgroupnsMode(c.cgroupns),
		DNS: dns, DNSOptions: orEmpty(c.dnsOptions.Values), DNSSearch: orEmpty(c.dnsSearch.Values), ExtraHosts: c.addHost.Values,
		GroupAdd: c.groupAdd.Values, IpcMode: container.IpcMode(c.ipc), Links: c.links.Values, OomScoreAdj: c.oomScoreAdj,
		PidMode: container.PidMode(c.pid), Privileged: c.privileged, PublishAllPorts: c.publishAll, ReadonlyRootfs: c.readOnly,
		SecurityOpt: security, StorageOpt: storage, Tmpfs: c.tmpfsMap(), UTSMode: container.UTSMode(c.uts),
		UsernsMode: container.UsernsMode(c.userns), ShmSize: int64(c.shmSize), Sysctls: c.sysctls.Values, Runtime: c.runtime,
		Isolation: container.Isolation(c.isolation), Resources: resources, Mounts: c.mounts.Values,
	}
	h.Umask = c.umask.Value
	if h.Sysctls == nil {
		h.Sysctls = map[string]string{}
	}
	if unmasked {
		h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	}
	if c.flags.Changed("init") {
		h.Init = &c.init
	}
	return h, nil
}

func (c *Container) resources() (container.Resources, error) {
	devices, cdi, err := parseDevices(c.devices.Values)
	if err != nil {
		return container.Resources{}, err
	}
	requests := c.gpus.Values
	if len(cdi) > 0 {
		requests = append(requests, container.DeviceRequest{Driver: "cdi", DeviceIDs: cdi})
	}
	if devices == nil {
		devices = []container.DeviceMapping{}
	}
	r := container.Resources{
		CPUShares: c.cpuShares, Memory: int64(c.memory), NanoCPUs: int64(c.cpus), CgroupParent: c.cgroupParent,
		BlkioWeight: c.blkioWeight, BlkioWeightDevice: orNone(c.weights.Values),
		BlkioDeviceReadBps: orNone(c.readBps.Values), BlkioDeviceWriteBps: orNone(c.writeBps.Values),
		BlkioDeviceReadIOps: orNone(c.readIOps.Values), BlkioDeviceWriteIOps: orNone(c.writeIOps.Values),
		CPUPeriod: c.cpuPeriod, CPUQuota: c.cpuQuota, CPURealtimePeriod: c.rtPeriod, CPURealtimeRuntime: c.rtRuntime,
		CpusetCpus: c.cpusetCpus, CpusetMems: c.cpusetMems, Devices: devices, DeviceCgroupRules: c.deviceRules.Values,
		DeviceRequests: requests, MemoryReservation: int64(c.reservation), MemorySwap: int64(c.swap),
		MemorySwappiness: &c.swappiness, OomKillDisable: &c.noOOMKill, PidsLimit: &c.pidsLimit, Ulimits: orNone(c.ulimits.Values),
		CPUCount: c.cpuCount, CPUPercent: c.cpuPercent, IOMaximumIOps: c.ioIOps, IOMaximumBandwidth: uint64(c.ioBandwidth),
	}
	return r, nil
}

// ports fills what is exposed and what is published.
func (c *Container) ports(config *container.Config, host *container.HostConfig) error {
	exposed, bound, err := ParsePublish(c.publish.Values)
	if err != nil {
		return err
	}
	if err := ParseExpose(c.expose.Values, exposed); err != nil {
		return err
	}
	host.PortBindings = bound
	if len(exposed) > 0 {
		config.ExposedPorts = exposed
	}
	return nil
}

// networking makes the endpoint of each network.
func (c *Container) networking() (*network.NetworkingConfig, error) {
	flags := Network{Aliases: c.aliases.Values, Links: c.links.Values}
	var err error
	if c.mac != "" {
		if flags.MAC, err = ValidateMAC(c.mac); err != nil {
			return nil, err
		}
	}
	if c.ip != "" {
		if flags.IPv4, err = parseAddr(c.ip, netip.Addr.Is4, "IPv4"); err != nil {
			return nil, err
		}
	}
	if c.ip6 != "" {
		if flags.IPv6, err = parseAddr(c.ip6, netip.Addr.Is6, "IPv6"); err != nil {
			return nil, err
		}
	}
	if flags.LinkLocal, err = addresses(c.linkLocal.Values); err != nil {
		return nil, err
	}
	settings, err := endpoints(c.networks.Values, flags)
	if err != nil {
		return nil, err
	}
	return &network.NetworkingConfig{EndpointsConfig: settings}, nil
}

func (c *Container) logConfig() (container.LogConfig, error) {
	if c.logDriver == "none" && len(c.logOptions.Values) > 0 {
		return container.LogConfig{}, fmt.Errorf("invalid logging opts for driver %s", c.logDriver)
	}
	return container.LogConfig{Type: c.logDriver, Config: pairs(c.logOptions.Values)}, nil
}

func (c *Container) tmpfsMap() map[string]string {
	m := map[string]string{}
	for _, s := range c.tmpfs.Values {
		target, options, _ := strings.Cut(s, ":")
		m[target] = options
	}
	return m
}

func storageOpts(values []string) (map[string]string, error) {
	for _, s := range values {
		if !strings.Contains(s, "=") {
			return nil, errors.New("invalid storage option")
		}
	}
	return pairs(values), nil
}

func addresses(values []string) ([]netip.Addr, error) {
	list := []netip.Addr{}
	for _, s := range values {
		ip, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("%s is not an ip address", s)
		}
		list = append(list, ip)
	}
	return list, nil
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// health holds the --health flags.
type health struct {
	command                                       string
	http, tcp, grpc, file                         string // probes that the engine makes itself
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
	none                                          bool
}

func (h *health) config() (*container.HealthConfig, error) {
	test, err := h.test()
	if err != nil {
		return nil, err
	}
	any := test != nil || h.interval != 0 || h.timeout != 0 || h.startPeriod != 0 || h.startInterval != 0 || h.retries != 0
	switch {
	case h.none && any:
		return nil, errors.New("--no-healthcheck conflicts with --health-* options")
	case h.none:
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	case !any:
		return nil, nil
	case h.interval < 0:
		return nil, errors.New("--health-interval cannot be negative")
	case h.timeout < 0:
		return nil, errors.New("--health-timeout cannot be negative")
	case h.retries < 0:
		return nil, errors.New("--health-retries cannot be negative")
	case h.startPeriod < 0:
		return nil, errors.New("--health-start-period cannot be negative")
	case h.startInterval < 0:
		return nil, errors.New("--health-start-interval cannot be negative")
	}
	c := &container.HealthConfig{
		Interval: h.interval, Timeout: h.timeout, StartPeriod: h.startPeriod, StartInterval: h.startInterval, Retries: h.retries,
	}
	c.Test = test
	return c, nil
}

// test is the probe that the flags ask for, nil if none does.
func (h *health) test() (test []string, err error) {
	flag := ""
	for _, f := range []struct{ flag, kind, arg string }{
		{"cmd", "CMD-SHELL", h.command}, {"http", "HTTP", h.http}, {"tcp", "TCP", h.tcp}, {"grpc", "GRPC", h.grpc}, {"file", "FILE", h.file},
	} {
		switch {
		case f.arg == "":
		case test != nil:
			return nil, fmt.Errorf("--health-%s conflicts with --health-%s", flag, f.flag)
		default:
			flag, test = f.flag, []string{f.kind, f.arg}
		}
	}
	return test, nil
}
