package container

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/runtime/external"
)

// What becomes of a setting where a cell is ready. A new field of the API fails
// the test until somebody says which of these it is; a wrong answer for the first
// would give a container the device rules, namespaces or identity of the cell.
const (
	// A container with it gets no cell (fitsCell): what the cell has already, and
	// the comparison of plans may not show. Device rules belong here: on version 2
	// of control groups they are no part of the plan.
	spared = "NetworkDisabled Privileged NetworkMode PidMode UTSMode IpcMode CgroupnsMode CgroupParent Runtime CapAdd CapDrop Devices DeviceRequests DeviceCgroupRules " +
		"Sysctls SecurityOpt OomScoreAdj Hostname Domainname"

	// It changes the first half of a plan, which NewWake compares byte for byte, or
	// is written to the cell's control group when it wakes.
	compared = "Binds Mounts Tmpfs ShmSize ReadonlyRootfs MaskedPaths ReadonlyPaths Init Tty Annotations Ulimits " +
		"CPUShares Memory NanoCPUs BlkioWeight BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CPUPeriod CPUQuota " +
		"CPURealtimePeriod CPURealtimeRuntime CpusetCpus CpusetMems MemoryReservation MemorySwap MemorySwappiness OomKillDisable PidsLimit"

	// It is of the second half: the user's program, its files, its root.
	second = "ConsoleSize GroupAdd Umask User Env Cmd WorkingDir Entrypoint Image DNS DNSOptions DNSSearch ExtraHosts"

	// The engine's or the keeper's business, not the runtime's (UsernsMode: who has ids
	// of his own gets no cell, see newID); or always refused.
	beside = "ContainerIDFile LogConfig PortBindings PublishAllPorts RestartPolicy AutoRemove VolumeDriver VolumesFrom Cgroup Links StorageOpt Isolation " +
		"CPUCount CPUPercent IOMaximumIOps IOMaximumBandwidth AttachStdin AttachStdout AttachStderr ExposedPorts OpenStdin StdinOnce Healthcheck ArgsEscaped Volumes " +
		"UsernsMode OnBuild Labels StopSignal StopTimeout Shell"
)

func TestEachSettingFitsACellOrNot(t *testing.T) {
	fresh := func() *Request {
		return &Request{Config: &container.Config{}, HostConfig: &container.HostConfig{
			Runtime: external.Own, NetworkMode: "bridge", IpcMode: container.IPCModePrivate, CgroupnsMode: container.CgroupnsModePrivate,
		}}
	}
	if !fitsCell(fresh()) {
		t.Fatal("a plain container fits no cell")
	}
	kind := map[string]string{}
	for name, list := range map[string]string{"spared": spared, "compared": compared, "second": second, "beside": beside} {
		for field := range strings.FieldsSeq(list) {
			if kind[field] != "" {
				t.Errorf("%s is in two lists", field)
			}
			kind[field] = name
		}
	}
	seen := 0
	for _, of := range []func(*Request) reflect.Value{
		func(r *Request) reflect.Value { return reflect.ValueOf(r.HostConfig).Elem() },
		func(r *Request) reflect.Value { return reflect.ValueOf(r.Config).Elem() },
	} {
		for _, f := range reflect.VisibleFields(of(fresh()).Type()) {
			if f.Anonymous {
				continue
			}
			seen++
			r := fresh()
			set(t, of(r).FieldByIndex(f.Index))
			switch fits := fitsCell(r); {
			case kind[f.Name] == "":
				t.Errorf("%s: say whether a container with it fits a cell (decision 0007)", f.Name)
			case fits == (kind[f.Name] == "spared"):
				t.Errorf("%s is %s; a container with it fits a cell: %t", f.Name, kind[f.Name], fits)
			}
		}
	}
	if seen != len(kind) {
		t.Errorf("%d settings, %d in the lists", seen, len(kind))
	}
}

func TestWhatIsAskedOfALinkFitsNoCell(t *testing.T) {
	fresh := func(mode container.NetworkMode, ep *network.EndpointSettings) *Request {
		return &Request{Config: &container.Config{}, HostConfig: &container.HostConfig{
			Runtime: external.Own, NetworkMode: mode, IpcMode: container.IPCModePrivate, CgroupnsMode: container.CgroupnsModePrivate,
		}, Networking: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"one": ep, "two": {DriverOpts: map[string]string{"x": "y"}}}}}
	}
	for _, fits := range []*network.EndpointSettings{
		{}, nil, {Aliases: []string{"www"}, Links: []string{"a:b"}, GwPriority: 3}, {MacAddress: []byte{2, 0, 0, 0, 0, 1}},
		{IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.0.0.7")}},
	} {
		if !fitsCell(fresh("one", fits)) {
			t.Errorf("%+v fits no cell", fits)
		}
	}
	for _, asks := range []*network.EndpointSettings{
		{DriverOpts: map[string]string{"x": "y"}}, {DriverOpts: map[string]string{spec.OptionInterfaceName: "wan"}},
		{DriverOpts: map[string]string{spec.OptionSysctls: "net.ipv4.conf.IFNAME.log_martians=1"}},
		{IPAMConfig: &network.EndpointIPAMConfig{LinkLocalIPs: []netip.Addr{netip.MustParseAddr("169.254.9.9")}}},
	} {
		if fitsCell(fresh("one", asks)) {
			t.Errorf("%+v fits a cell", asks)
		}
	}
	if r := fresh("two", nil); r.Networking.EndpointsConfig["two"].DriverOpts == nil || fitsCell(r) {
		t.Error("an option fits a cell")
	}
}

func TestFewNetworksHaveCells(t *testing.T) {
	p := newCells("", nil, nil, nil)
	made := map[string]*cell{}
	for _, network := range []string{"a", "b", "c", "d", "a", "e"} {
		of := p.use(network)
		if made[network] == nil {
			made[network] = &cell{id: network, network: network}
			of.ready = append(of.ready, made[network])
		}
	}
	if p.at("b") >= 0 || p.at("a") != 1 || p.at("e") != 0 || len(p.pools) != cellNetworks {
		t.Errorf("%+v", p.pools)
	}
	if old := p.stale(); !slices.Equal(old, []*cell{made["b"]}) {
		t.Errorf("given up: %+v", old)
	}
	if p.wanted() != "e" {
		t.Error("the network used last is not the first:", p.wanted())
	}
	p.pools[p.at("d")].used = time.Now().Add(-2 * cellsIdle)
	p.claimed["x"] = &cell{id: "x", network: "c", endAt: time.Now().Add(-time.Second)}
	p.claimed["y"] = &cell{id: "y", network: "c", endAt: time.Now().Add(time.Hour)}
	if old := p.stale(); len(old) != 2 || old[0] != made["d"] || old[1].id != "x" {
		t.Errorf("given up: %+v", old)
	}
	taken := make(chan *cell)
	go func() { taken <- p.take("x") }()
	select {
	case <-taken:
		t.Error("a container starts beside the cell of its ID that is being given up")
	case <-time.After(20 * time.Millisecond):
	}
	p.gone("x")
	if <-taken != nil || p.take("x") != nil || p.take("y") == nil || p.take("y") != nil {
		t.Error("claims")
	}
	if all := p.takeAll(); len(all) != 3 || len(p.pools) != 0 || p.wanted() != "" {
		t.Errorf("all: %+v", all)
	}
}

// set gives a value that is not the zero one.
func set(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("host")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Array, reflect.Struct:
		set(t, first(v))
	default:
		t.Fatalf("no value of %s", v.Type())
	}
}

func first(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Array {
		return v.Index(0)
	}
	return v.Field(0)
}
