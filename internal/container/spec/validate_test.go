package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/cgroup"
)

func request(t testing.TB, body string) *container.CreateRequest {
	t.Helper()
	var r container.CreateRequest
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return &r
}

// TestBadHostConfig has bodies of HostConfig and the texts of the refusals:
// Docker's own where it refuses (at create or at start).
func TestBadHostConfig(t *testing.T) {
	for body, want := range map[string]string{
		`{"Memory":1}`:      "Minimum memory limit allowed is 6MB",
		`{"Memory":-5}`:     "Minimum memory limit allowed is 6MB",
		`{"MemorySwap":5}`:  "You should always set the Memory limit when using Memoryswap limit, see usage",
		`{"MemorySwap":-2}`: "invalid MemorySwap -2",
		`{"Memory":10485760,"MemorySwap":5242880}`:              "Minimum memoryswap limit should be larger than memory limit, see usage",
		`{"Memory":10485760,"MemoryReservation":900000000}`:     "Minimum memory limit can not be less than memory reservation limit, see usage",
		`{"MemoryReservation":5}`:                               "Minimum memory reservation allowed is 6MB",
		`{"MemorySwappiness":101}`:                              "Invalid value: 101, valid memory swappiness range is 0-100",
		`{"NanoCpus":-1}`:                                       "range of CPUs is from 0.01 to ",
		`{"NanoCpus":1}`:                                        "range of CPUs is from 0.01 to ",
		`{"NanoCpus":10000000000000}`:                           "range of CPUs is from 0.01 to ",
		`{"NanoCpus":1000000000,"CpuPeriod":1000}`:              "Conflicting options: Nano CPUs and CPU Period cannot both be set",
		`{"NanoCpus":1000000000,"CpuQuota":1000}`:               "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
		`{"CpuPeriod":1}`:                                       "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
		`{"CpuQuota":10}`:                                       "CPU cfs quota can not be less than 1ms (i.e. 1000)",
		`{"CpuShares":-1}`:                                      "invalid CPU shares (-1): value must be a positive integer",
		`{"CpuRealtimePeriod":4,"CpuRealtimeRuntime":5}`:        "cpu real-time runtime cannot be higher than cpu real-time period",
		`{"CpuRealtimePeriod":-1}`:                              "invalid CPU real-time period or runtime (-1, 0): must not be negative",
		`{"CpusetCpus":"x"}`:                                    "Invalid value x for cpuset cpus: invalid format: x",
		`{"CpusetCpus":"3-1"}`:                                  "Invalid value 3-1 for cpuset cpus",
		`{"CpusetCpus":"0-99999"}`:                              "Invalid value 0-99999 for cpuset cpus",
		`{"CpusetCpus":"4000"}`:                                 "Requested CPUs are not available - requested 4000, available: ",
		`{"CpusetMems":"4000"}`:                                 "Requested memory nodes are not available - requested 4000, available: ",
		`{"BlkioWeight":5}`:                                     "Range of blkio weight is from 10 to 1000",
		`{"BlkioWeight":1001}`:                                  "Range of blkio weight is from 10 to 1000",
		`{"BlkioWeightDevice":[null]}`:                          "BlkioWeightDevice: null",
		`{"BlkioDeviceReadBps":[null]}`:                         "BlkioDevice: null",
		`{"BlkioDeviceReadBps":[{"Path":"/dev/null"}]}`:         "/dev/null: not a block device",
		`{"IOMaximumBandwidth":5}`:                              "invalid QoS settings: linux does not support configuration of maximum bandwidth",
		`{"PidsLimit":-5}`:                                      "invalid PidsLimit -5",
		`{"ShmSize":-1}`:                                        "SHM size can not be less than 0",
		`{"OomScoreAdj":2000}`:                                  "Invalid value 2000, range for oom score adj is [-1000, 1000]",
		`{"CapAdd":["FOO"]}`:                                    `invalid CapAdd: unknown capability: "CAP_FOO"`,
		`{"CapDrop":["foo"]}`:                                   `invalid CapDrop: unknown capability: "CAP_FOO"`,
		`{"SecurityOpt":["foo"]}`:                               `invalid --security-opt 1: "foo"`,
		`{"SecurityOpt":["foo=bar"]}`:                           `invalid --security-opt 2: "foo=bar"`,
		`{"SecurityOpt":["no-new-privileges:maybe"]}`:           `invalid --security-opt 2: "no-new-privileges:maybe"`,
		`{"SecurityOpt":["writable-cgroups=x"]}`:                `invalid --security-opt 2: "writable-cgroups=x"`,
		`{"SecurityOpt":["label=type:x"]}`:                      `SELinux is not enabled`,
		`{"SecurityOpt":["seccomp={bad"]}`:                      "Decoding seccomp profile failed: invalid character 'b' looking for beginning of object key string",
		`{"SecurityOpt":["seccomp={\"defaultAction\":\"X\"}"]}`: `unknown seccomp action "X"`,
		`{"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_NOTIFY\"}"]}`: "seccomp listenerPath",
		`{"Binds":["a:b:c:d"]}`:            "invalid volume specification: 'a:b:c:d'",
		`{"Binds":["/a:/"]}`:               `invalid volume specification: '/a:/': invalid mount config for type "bind": invalid specification: destination can't be '/'`,
		`{"Binds":["/a:b"]}`:               `invalid volume specification: '/a:b': invalid mount config for type "bind": invalid mount path: 'b' mount path must be absolute`,
		`{"Binds":["/a:/b:zz"]}`:           "invalid mode: zz",
		`{"Binds":["/a:/b:z,Z"]}`:          "invalid mode: z,Z",
		`{"Binds":["/:/b:z"]}`:             "SELinux relabeling of / is not allowed",
		`{"Binds":["/etc:/b:Z"]}`:          "SELinux relabeling of /etc is not allowed",
		`{"Binds":["/x/../usr/:/b:ro,z"]}`: "SELinux relabeling of /usr is not allowed",
		`{"Binds":["/a:/b:"]}`:             "invalid mode: ",
		`{"Binds":["/a:ro"]}`:              "invalid volume specification: '/a:ro'",
		`{"Binds":[":/b"]}`:                "invalid volume specification: ':/b'",
		`{"Binds":["/a:/b","/c:/b/"]}`:     "Duplicate mount point: /b",
		`{"Binds":["vol:/b:slave"]}`:       `invalid volume specification: 'vol:/b:slave': invalid mount config for type "volume": field BindOptions must not be specified`,
		`{"Binds":["/usr/:/b:z"]}`:         "SELinux relabeling of /usr is not allowed",
		`{"Binds":["/a:/proc"]}`:           `invalid mount target "/proc": cannot be mounted because it is inside /proc`,
		`{"Binds":["/a:/x/../proc/sys"]}`:  `invalid mount target "/proc/sys"`,
		`{"Binds":["vol:/b","w2:/b"]}`:     `Duplicate mount point: /b`,
		`{"Binds":["vol:/proc/x"]}`:        `invalid mount target "/proc/x": cannot be mounted because it is inside /proc`,
		`{"Mounts":[{"Type":"bind","Source":"/nosuch","Target":"/x"}]}`:                                            `invalid mount config for type "bind": bind source path does not exist: /nosuch`,
		`{"Mounts":[{"Type":"bind","Target":"/x"}]}`:                                                               `invalid mount config for type "bind": field Source must not be empty`,
		`{"Mounts":[{"Type":"bind","Source":"/tmp"}]}`:                                                             `invalid mount config for type "bind": field Target must not be empty`,
		`{"Mounts":[{"Type":"foo","Target":"/x"}]}`:                                                                `invalid mount config for type "foo": mount type unknown`,
		`{"Mounts":[{"Type":"volume","Source":"v","Target":"/x","VolumeOptions":{"Subpath":"../y"}}]}`:             `invalid mount config for type "volume": subpath must be a relative path within the volume`,
		`{"Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"Subpath":"y"}}]}`:                             `invalid mount config for type "volume": must not set Subpath when using anonymous volumes`,
		`{"Mounts":[{"Type":"volume","Source":"v","Target":"/x","BindOptions":{}}]}`:                               `invalid mount config for type "volume": field BindOptions must not be specified`,
		`{"Mounts":[{"Type":"bind","Source":"tmp","Target":"/x"}]}`:                                                `invalid mount config for type "bind": invalid mount path: 'tmp' mount path must be absolute`,
		`{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"x"}]}`:                                                `invalid mount config for type "bind": invalid mount path: 'x' mount path must be absolute`,
		`{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/x","BindOptions":{"Propagation":"foo"}}]}`:           `invalid mount config for type "bind": invalid propagation mode: foo`,
		`{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/x","BindOptions":{"ReadOnlyForceRecursive":true}}]}`: "ReadOnlyForceRecursive but not ReadOnly",
		`{"Mounts":[{"Type":"tmpfs","Source":"/a","Target":"/x"}]}`:                                                `invalid mount config for type "tmpfs": field Source must not be specified`,
		`{"Mounts":[{"Type":"tmpfs","Target":"/x","BindOptions":{}}]}`:                                             `invalid mount config for type "tmpfs": field BindOptions must not be specified`,
		`{"Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"SizeBytes":-1}}]}`:                              `invalid mount config for type "tmpfs": invalid tmpfs size -1`,
		`{"Tmpfs":{"/x":"foo=bar"}}`:                                                                               `invalid tmpfs option ["foo" "bar"]`,
		`{"Tmpfs":{"/x":"size=1x"}}`:                                                                               `invalid tmpfs option ["size" "1x"]`,
		`{"Tmpfs":{"x":""}}`:                                                                                       "invalid mount path: 'x' mount path must be absolute",
		`{"Tmpfs":{"/":""}}`:                                                                                       "invalid specification: destination can't be '/'",
		`{"PidMode":"foo"}`:                                                                                        "invalid PID mode: foo",
		`{"PidMode":"container:"}`:                                                                                 "invalid PID mode: container:",
		`{"IpcMode":"foo"}`:                                                                                        "invalid IPC mode: foo",
		`{"IpcMode":"container:"}`:                                                                                 "invalid IPC mode: container:",
		`{"UTSMode":"foo"}`:                                                                                        "invalid UTS mode: foo",
		`{"UsernsMode":"foo"}`:                                                                                     "invalid user namespace mode: foo",
		`{"UsernsMode":"auto:size=12"}`:                                                                            "invalid user namespace mode: auto:size=12: the size must be a number of ids from 1024 on",
		`{"UsernsMode":"auto:size=-1"}`:                                                                            "invalid user namespace mode: auto:size=-1: the size must be a number of ids from 1024 on",
		`{"UsernsMode":"container:"}`:                                                                              "invalid user namespace mode: container:",
		`{"UsernsMode":"autos"}`:                                                                                   "invalid user namespace mode: autos",
		`{"CgroupnsMode":"foo"}`:                                                                                   "invalid cgroup namespace mode: foo",
		`{"NetworkMode":"container:"}`:                                                                             "Invalid network mode: invalid container format container:<name|id>",

		`{"Isolation":"hyperv"}`:                                                      "invalid isolation 'hyperv' on linux",
		`{"Annotations":{"tare.systemd":"yes"}}`:                                      `invalid tare.systemd "yes": must be auto, always or false`,
		`{"Annotations":{"tare.systemd":"auto"},"CgroupnsMode":"host"}`:               "tare.systemd=auto: systemd needs a cgroup namespace of its own, which --cgroupns host takes away",
		`{"Annotations":{"tare.systemd":"always"},"Init":true}`:                       "tare.systemd=always and --init: only one of them can be the first process",
		`{"RestartPolicy":{"Name":"foo"}}`:                                            "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
		`{"RestartPolicy":{"Name":"always"},"AutoRemove":true}`:                       "can't create 'AutoRemove' container with restart policy",
		`{"LogConfig":{"Type":"nope"}}`:                                               "logger: no log driver named 'nope' is registered",
		`{"LogConfig":{"Type":"splunk"}}`:                                             "log driver splunk is not offered",
		`{"LogConfig":{"Config":{"foo":"1"}}}`:                                        "unknown log opt 'foo' for json-file log driver",
		`{"LogConfig":{"Config":{"mode":"x"}}}`:                                       "logger: logging mode not supported: x",
		`{"LogConfig":{"Config":{"max-buffer-size":"1"}}}`:                            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
		`{"LogConfig":{"Config":{"max-size":"1k","compress":"true"}}}`:                "compress cannot be true when max-file is less than 2 or max-size is not set",
		`{"LogConfig":{"Config":{"max-size":"-1","max-file":"3","compress":"true"}}}`: "compress cannot be true when max-file is less than 2 or max-size is not set",
		`{"LogConfig":{"Config":{"max-file":"1","compress":"true"}}}`:                 "compress cannot be true when max-file is less than 2 or max-size is not set",
		`{"LogConfig":{"Config":{"max-size":"x"}}}`:                                   `invalid value "x" for log option max-size`,
		`{"Devices":[{"PathOnHost":"/dev/nosuch"}]}`:                                  `error gathering device information while adding custom device "/dev/nosuch": no such file or directory`,
		`{"Devices":[{"PathOnHost":"dev"}]}`:                                          `invalid device path "dev": must be absolute`,
		`{"Devices":[{"PathOnHost":"/dev/null","CgroupPermissions":"x"}]}`:            `invalid device cgroup permissions: "x"`,
		`{"DeviceCgroupRules":["foo"]}`:                                               "invalid device cgroup rule format: 'foo'",
		`{"DeviceCgroupRules":["c 1:3 x"]}`:                                           "invalid device cgroup rule format: 'c 1:3 x'",
		`{"DeviceCgroupRules":["a 1:3 r"]}`:                                           "invalid device cgroup rule format: 'a 1:3 r'",
		`{"DeviceCgroupRules":["a *:* r"]}`:                                           "invalid device cgroup rule format: 'a *:* r'",
		`{"DeviceRequests":[{"Count":-1,"Capabilities":[["gpu"]]}]}`:                  `could not select device driver "" with capabilities: [[gpu]]`,
		`{"Ulimits":[{"Name":"foo","Soft":1,"Hard":1}]}`:                              "invalid ulimit name foo",
		`{"Ulimits":[{"Name":"nofile","Soft":5,"Hard":1}]}`:                           "ulimit soft limit must be less than or equal to hard limit: 5 > 1",
		`{"Ulimits":[{"Name":"nofile","Soft":-1,"Hard":1}]}`:                          "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 1",
		`{"Ulimits":[null]}`:                                                          "Ulimits: null",
		`{"Sysctls":{"foo":"1"}}`:                                                     `sysctl "foo" is not in a separate kernel namespace`,
		`{"Sysctls":{"kernel.core_pattern":"|x"}}`:                                    `sysctl "kernel.core_pattern" is not in a separate kernel namespace`,
		`{"Sysctls":{"net/../kernel/x":"1"}}`:                                         `invalid sysctl "net/../kernel/x"`,
		`{"Sysctls":{"net.x":"1\nkernel.y=2"}}`:                                       `for sysctl net.x`,
		`{"Sysctls":{"net.x+kernel.y":"1\n"}}`:                                        `for sysctl net.x+kernel.y`,
		`{"Sysctls":{"net.x":"1"},"NetworkMode":"host"}`:                              `sysctl "net.x" not allowed in host network namespace`,
		`{"Sysctls":{"kernel.sem":"1"},"IpcMode":"host"}`:                             `sysctl "kernel.sem" not allowed in host IPC namespace`,
		`{"ExtraHosts":["foo"]}`:                                                      `bad format for add-host: "foo"`,
		`{"ExtraHosts":["a:b"]}`:                                                      `invalid IP address in add-host: "b"`,
		`{"ExtraHosts":["a\n1.1.1.1 b:1.1.1.1"]}`:                                     "bad format for add-host",
		`{"DnsSearch":["a\nnameserver 1.1.1.1"]}`:                                     "for DnsSearch",
		`{"PortBindings":{"80/tcp":[{"HostPort":"x"}]}}`:                              `invalid port specification: "x"`,
		`{"PortBindings":{"80/tcp":[{"HostPort":"9-8"}]}}`:                            `invalid port specification: "9-8"`,
		`{"PortBindings":{"80/foo":[{}]}}`:                                            `invalid port specification: "80/foo"`,
		`{"MaskedPaths":["x"]}`:                                                       `invalid path "x" in MaskedPaths: must be absolute`,
		`{"ReadonlyPaths":["/a/.."]}`:                                                 `invalid path "/a/.." in ReadonlyPaths`,
		`{"VolumesFrom":["x:rshared"]}`:                                               "invalid mode: rshared",
		`{"VolumesFrom":[""]}`:                                                        "volumes-from specification cannot be an empty string",
		`{"CgroupParent":"/tare/x"}`:                                                  `invalid cgroup parent "/tare/x": groups of that name are the engine's own`,
		`{"CgroupParent":"../tare-1"}`:                                                `invalid cgroup parent "../tare-1": groups of that name are the engine's own`,
		`{"GroupAdd":["-1"]}`:                                                         `invalid group "-1"`,
		`{"Umask":4096}`:                                                              "invalid umask",
		`{"Annotations":{"":"x"}}`:                                                    "invalid Annotations: the empty string is not permitted as an annotation key",
		`{"ConsoleSize":[70000,1]}`:                                                   "invalid console size",
		`{"Binds":["/a:/b\u0000"]}`:                                                   `HostConfig.Binds[0]: "/a:/b\x00" contains a NUL byte`,
	} {
		_, err := Validate("", request(t, `{"Cmd":["true"],"HostConfig":`+body+`}`), MountRules{})
		checkRefusal(t, body, err, want)
	}
}

func checkRefusal(t *testing.T, body string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s:\n got %v\nwant %s", body, err, want)
		return
	}
	switch errdefs.KindOf(err) {
	case errdefs.InvalidArgument, errdefs.NotFound, errdefs.NotImplemented, errdefs.TooLarge:
	default:
		t.Errorf("%s: kind %d", body, errdefs.KindOf(err))
	}
}

func TestBadConfig(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for body, want := range map[string]string{
		`{"WorkingDir":"x"}`:                               "the working directory 'x' is invalid, it needs to be an absolute path",
		`{"StopSignal":"FOO"}`:                             "invalid signal: FOO",
		`{"Env":["=x"]}`:                                   "invalid environment variable: =x",
		`{"Env":[""]}`:                                     "invalid environment variable: ",
		`{"Env":["A=` + long + `"]}`:                       "is longer than 131071 bytes",
		`{"Env":["A=\u0000"]}`:                             "Env[0]: \"A=\\x00\" contains a NUL byte",
		`{"Labels":{"a\u0000":""}}`:                        "Labels key",
		`{"User":"4294967296"}`:                            "uids and gids must be in range 0-2147483647",
		`{"User":"-1"}`:                                    "uids and gids must be in range",
		`{"User":"0:-1"}`:                                  "uids and gids must be in range",
		`{"User":"a:b:c"}`:                                 `invalid user "a:b:c"`,
		`{"Hostname":"a b"}`:                               `invalid hostname: "a b"`,
		`{"Hostname":"` + long[:65] + `"}`:                 "invalid hostname",
		`{"StopTimeout":-5}`:                               "invalid stop timeout: -5",
		`{"Healthcheck":{"Test":["CURL","x"]}}`:            `unknown type "CURL"`,
		`{"Healthcheck":{"Interval":1}}`:                   "Interval in Healthcheck cannot be less than 1ms",
		`{"Healthcheck":{"StartInterval":-1}}`:             "StartInterval in Healthcheck cannot be less than 1ms",
		`{"Healthcheck":{"Retries":-1}}`:                   "Retries in Healthcheck cannot be negative",
		`{"Hostname":"x","HostConfig":{"UTSMode":"host"}}`: "conflicting options: hostname and the UTS mode",
		`{"Hostname":"x","HostConfig":{"NetworkMode":"container:x"}}`:                                              "conflicting options: hostname and the network mode",
		`{"Image":"x","HostConfig":{"NetworkMode":"container:x","PortBindings":{"80/tcp":[{}]}}}`:                  "conflicting options: port publishing and the container type network mode",
		`{"ExposedPorts":{"80/tcp":{}},"HostConfig":{"NetworkMode":"container:x"}}`:                                "conflicting options: port exposing and the container type network mode",
		`{"Image":"x","HostConfig":{"NetworkMode":"container:x","Dns":["1.1.1.1"]}}`:                               "conflicting options: dns and the network mode",
		`{"Image":"x","HostConfig":{"NetworkMode":"container:x","ExtraHosts":["a:1.1.1.1"]}}`:                      "conflicting options: custom host-to-IP mapping and the network mode",
		`{"Image":"x","NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"1.2.3.4"}}}}}`: "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
		`{"Image":"x","NetworkingConfig":{"EndpointsConfig":{"bridge":{"Aliases":["a"]}}}}`:                        "invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks",
	} {
		_, err := Validate("", request(t, body), MountRules{})
		checkRefusal(t, body[:min(len(body), 100)], err, want)
	}
	if _, err := Validate("", &container.CreateRequest{}, MountRules{}); err == nil {
		t.Error("no Config accepted")
	}
	bad := &container.CreateRequest{Config: &container.Config{Labels: map[string]string{"a": "\xff"}}}
	if _, err := Validate("", bad, MountRules{}); err == nil || !strings.Contains(err.Error(), `Labels["a"]`) {
		t.Errorf("invalid UTF-8: %v", err)
	}
}

func TestUpdateChecksLimitsOnly(t *testing.T) {
	h := &container.HostConfig{Mounts: []mount.Mount{{Type: "bind", Source: "/nosuch", Target: "/x"}}}
	if _, err := ValidateUpdate(h, &h.Resources); err != nil {
		t.Error(err)
	}
	h.Memory = 1
	_, err := ValidateUpdate(h, &h.Resources)
	checkRefusal(t, "update", err, "Minimum memory limit allowed is 6MB")
	_, err = ValidateUpdate(&container.HostConfig{RestartPolicy: container.RestartPolicy{Name: "x"}}, &container.Resources{})
	checkRefusal(t, "update", err, "invalid restart policy: unknown policy 'x'")
}

func TestContainerNames(t *testing.T) {
	for _, name := range []string{"-x", "a/b", "x", "a b", "ä1", strings.Repeat("a", 256), "a\nb"} {
		if err := ValidateName(name); err == nil || !strings.HasPrefix(err.Error(), "Invalid container name (") || !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"xx", "A_b.c-9", "0a", strings.Repeat("a", 255)} {
		if err := ValidateName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestBadExec(t *testing.T) {
	for body, want := range map[string]string{
		`{}`:                                    "No exec command specified",
		`{"Cmd":["x"],"WorkingDir":"x"}`:        "needs to be an absolute path",
		`{"Cmd":["x\u0000"]}`:                   "Cmd[0]",
		`{"Cmd":["x"],"Env":["=1"]}`:            "invalid environment variable: =1",
		`{"Cmd":["x"],"User":"-2"}`:             "uids and gids must be in range",
		`{"Cmd":["x"],"ConsoleSize":[1,70000]}`: "invalid console size",
	} {
		var r container.ExecCreateRequest
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		checkRefusal(t, body, ValidateExec(&r), want)
	}
	if err := ValidateExec(&container.ExecCreateRequest{Cmd: []string{"x"}, User: "app:wheel", WorkingDir: "/"}); err != nil {
		t.Error(err)
	}
}

// TestClientsRequestsPass has what clients send without being asked.
func TestClientsRequestsPass(t *testing.T) {
	for _, body := range []string{
		`{"Image":"x"}`,
		// docker run -it --rm
		`{"Hostname":"","Domainname":"","User":"","AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Tty":true,"OpenStdin":true,"StdinOnce":true,"Env":[],"Cmd":null,"Image":"x","Volumes":{},"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default","PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":true,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[50,120],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null},"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":null,"DriverOpts":null,"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"","MacAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}`,
		`{"Image":"x","HostConfig":{"LogConfig":{"Config":{"compress":"true"}}}}`,
		`{"Image":"x","HostConfig":{"LogConfig":{"Config":{"max-size":"1k","max-file":"2","compress":"true"}}}}`,
		`{"Image":"x","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}],"53/udp":[{"HostIp":"127.0.0.1","HostPort":"5000-5010"}]},"Binds":["/tmp:/x:ro"],"Tmpfs":{"/t":""},"SecurityOpt":["label=disable","seccomp=unconfined","no-new-privileges:true"]}}`,
	} {
		r := request(t, body)
		if _, err := Validate("", r, MountRules{}); err != nil {
			t.Errorf("%.80s: %v", body, err)
			continue
		}
		if r.HostConfig.ShmSize != 64<<20 || r.HostConfig.IpcMode != "private" || r.HostConfig.LogConfig.Type != "json-file" || r.HostConfig.MaskedPaths == nil {
			t.Errorf("defaults: %+v", r.HostConfig)
		}
	}
}

// FuzzCreateBody: whatever is accepted gives a spec that the runtime could
// take.
func FuzzCreateBody(f *testing.F) {
	f.Add(`{"Image":"x","Cmd":["sh"],"HostConfig":{"Memory":67108864,"CapAdd":["ALL"],"Tmpfs":{"/t":"size=1m"},"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}]}}`)
	f.Add(`{"User":"1:2","HostConfig":{"Devices":[{"PathOnHost":"/dev/null"}],"DeviceCgroupRules":["c 1:* r"],"Sysctls":{"net.a":"1"},"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ERRNO\"}]}"]}}`)
	f.Add(`{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/x/y"},{"Type":"tmpfs","Target":"/z"}],"PidMode":"host","IpcMode":"none","NetworkMode":"container:x","Binds":["/etc:/proc/uptime:ro,rslave"],"CpusetCpus":"0"}}`)
	f.Add(`{"HostConfig":{"Privileged":true,"Init":true,"Ulimits":[null],"BlkioWeightDevice":[null],"Annotations":{"":""}}}`)
	root := rootWith(f, map[string]string{"etc/passwd": testPasswd, "etc/group": testGroup})
	f.Fuzz(func(t *testing.T, body string) {
		var r container.CreateRequest
		if json.Unmarshal([]byte(body), &r) != nil {
			return
		}
		if _, err := Validate("", &r, MountRules{}); err != nil {
			if errdefs.KindOf(err) == errdefs.Internal {
				t.Errorf("%s: %v is our fault", body, err)
			}
			return
		}
		in := Input{ID: "x", CgroupPath: "tare/x", Config: r.Config, HostConfig: r.HostConfig, Root: root, InitPath: "/init", PIDOf: 1, IPCOf: 1}
		for _, b := range r.HostConfig.Binds { // would be made on this host
			if _, err := os.Stat(strings.Split(b, ":")[0]); errors.Is(err, fs.ErrNotExist) {
				return
			}
		}
		for _, m := range r.HostConfig.Mounts {
			if m.BindOptions != nil && m.BindOptions.CreateMountpoint {
				return
			}
		}
		s, err := Of(in)
		if err != nil {
			if errdefs.KindOf(err) == errdefs.Internal {
				t.Errorf("%s: %v is our fault", body, err)
			}
			return
		}
		if err := checkSpec(s); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	})
}

// checkSpec is what every spec must hold to.
func checkSpec(s *specs.Spec) error {
	if !strings.HasPrefix(s.Process.Cwd, "/") || s.Process.User.UID > maxID || s.Process.User.GID > maxID {
		return fmt.Errorf("process %+v", s.Process)
	}
	if c := s.Process.Capabilities; len(c.Inheritable)+len(c.Ambient) > 0 {
		return fmt.Errorf("capabilities %+v", c)
	}
	for _, m := range s.Mounts {
		if !strings.HasPrefix(m.Destination, "/") || m.Destination == "/" || slices.Contains(strings.Split(m.Destination, "/"), "..") {
			return fmt.Errorf("mount %+v", m)
		}
	}
	if len(s.Linux.Resources.Devices) == 0 {
		return errors.New("no device rules")
	}
	if _, err := json.Marshal(s); err != nil {
		return err
	}
	return nil
}

func TestLimitsThatTheKernelLacksAreDiscarded(t *testing.T) {
	all := cgroup.Features{Memory: true, Swap: true, Reservation: true, Swappiness: true, OOMDisable: true, CPUShares: true, CPUQuota: true,
		Cpuset: true, Pids: true, Weight: true, WeightDevice: true, Throttle: true}
	for body, c := range map[string]struct {
		lack func(*cgroup.Features)
		want string
	}{
		`{"Memory":10485760,"MemorySwap":20971520}`: {func(f *cgroup.Features) { f.Swap = false }, "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."},
		`{"BlkioWeight":10}`:                        {func(f *cgroup.Features) { f.Weight = false }, "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."},
		`{"MemorySwappiness":10}`:                   {func(f *cgroup.Features) { f.Swappiness = false }, "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."},
		`{"OomKillDisable":true}`:                   {func(f *cgroup.Features) { f.OOMDisable = false }, "Your kernel does not support OomKillDisable. OomKillDisable discarded."},
	} {
		var r container.Resources
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		if w := discard(&r, all); len(w) > 0 {
			t.Errorf("%s: %v", body, w)
		}
		f := all
		c.lack(&f)
		if w := discard(&r, f); len(w) != 1 || w[0] != c.want {
			t.Errorf("%s: %v", body, w)
		}
		if w := discard(&r, f); len(w) > 0 {
			t.Errorf("%s: kept: %v", body, w)
		}
	}
}

func TestDefaultsAreDockers(t *testing.T) {
	h := &container.HostConfig{}
	applyDefaults(h)
	for _, p := range []string{"/proc/interrupts", "/proc/kcore", "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/kernel/debug"} {
		if !slices.Contains(h.MaskedPaths, p) {
			t.Errorf("%s is not masked", p)
		}
	}
	if d := cmp.Diff([]string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}, h.ReadonlyPaths); d != "" {
		t.Error(d)
	}
	if *h.PidsLimit != 4096 || h.CgroupnsMode != "private" || h.NetworkMode != "default" || h.RestartPolicy.Name != "no" {
		t.Errorf("%+v", h)
	}
}

func BenchmarkSpecOf(b *testing.B) {
	in := input(b, nil)
	for b.Loop() {
		if _, err := Of(in); err != nil {
			b.Fatal(err)
		}
	}
}

func TestHardwareAddressesOfNobody(t *testing.T) {
	for _, mac := range []string{"00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "02:42:ac:11:00:02:00:00"} {
		a, err := net.ParseMAC(mac)
		if err != nil {
			t.Fatal(err)
		}
		err = ValidateEndpoint("n", &network.EndpointSettings{MacAddress: network.HardwareAddr(a)}, "n")
		if !errdefs.Is(err, errdefs.InvalidArgument) || err.Error() != "invalid MAC address: "+mac {
			t.Errorf("%s: %v", mac, err)
		}
	}
}
