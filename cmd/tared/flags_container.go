package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/container/spec"
)

// containerConfig is what new containers get that do not say otherwise.
type containerConfig struct {
	LogDriver       string
	LogOpts         map[string]string // of that driver
	Ulimits         []*container.Ulimit
	ShmSize         byteSize
	IpcMode         string
	CgroupnsMode    string
	CgroupParent    string
	Init            bool
	InitPath        string // of their init program; empty: ours
	NoNewPrivileges bool
	SeccompProfile  string // a file, builtin or unconfined; empty: builtin

	seccomp string // what is in that file
}

func defaultContainerConfig() containerConfig {
	return containerConfig{LogDriver: "json-file", IpcMode: string(container.IPCModePrivate), CgroupnsMode: string(container.CgroupnsModePrivate)}
}

func (c *containerConfig) options() []option {
	return []option{
		{"log-driver", "", "log-driver", "where the output of containers that name no `driver` is kept (json-file, local, none), or goes as well: syslog, journald, gelf or fluentd", textValue{&c.LogDriver, nil}},
		{"log-opt", "", "log-opts", "`NAME=VALUE` for containers with the default log driver that do not give the option; several may be given", objectValue{&c.LogOpts}},
		{"default-ulimit", "", "default-ulimits", "limit of containers that do not give it: `NAME=SOFT[:HARD]`, such as nofile=1024:4096; several may be given", ulimitsValue{&c.Ulimits}},
		{"default-shm-size", "", "default-shm-size", "`size` of /dev/shm of containers that do not give it", &c.ShmSize},
		{"default-ipc-mode", "", "default-ipc-mode", "IPC `mode` of containers that name none: private or shareable", textValue{&c.IpcMode, oneOf("private", "shareable")}},
		{"default-cgroupns-mode", "", "default-cgroupns-mode", "cgroup namespace `mode` of containers that name none: private or host", textValue{&c.CgroupnsMode, oneOf("private", "host")}},
		{"cgroup-parent", "", "cgroup-parent", "`cgroup` in which the groups of containers are made that name none", textValue{&c.CgroupParent, nil}},
		{"init", "", "init", "containers that do not say have an init program, as with --init", (*boolValue)(&c.Init)},
		{"init-path", "", "init-path", "`program` that --init puts into containers, called with -- and the command; tare-init if none is given", textValue{&c.InitPath, checkPath}},
		{"no-new-privileges", "", "no-new-privileges", "new containers that do not say cannot get more rights by set-user-ID programs", (*boolValue)(&c.NoNewPrivileges)},
		{"seccomp-profile", "", "seccomp-profile", "`file` with the seccomp profile of new containers that name none; builtin or unconfined", textValue{&c.SeccompProfile, checkSeccomp}},
	}
}

func checkSeccomp(s string) error {
	if s == "builtin" || s == "unconfined" {
		return nil
	}
	return checkPath(s)
}

// maxProfile bounds a file with a seccomp profile.
const maxProfile = 1 << 20

// check reads the profile, and refuses settings with which no container could be made.
func (c *containerConfig) check() error {
	c.seccomp = ""
	switch c.SeccompProfile {
	case "", "builtin":
	case "unconfined":
		c.seccomp = c.SeccompProfile
	default:
		b, err := readSmall(c.SeccompProfile, maxProfile)
		if err != nil {
			return fmt.Errorf("seccomp-profile: %w", err)
		}
		c.seccomp = string(b)
	}
	if c.InitPath != "" {
		if st, err := os.Stat(c.InitPath); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
			return fmt.Errorf("init-path: %s is no program", c.InitPath)
		}
	}
	if err := spec.ValidateLog(c.defaults().Log); err != nil {
		return fmt.Errorf("log-driver and log-opts: %w", err)
	}
	if err := c.defaults().Check(); err != nil {
		return fmt.Errorf("what containers get that do not say otherwise: %w", err)
	}
	return nil
}

// defaults are the settings in the terms of package spec.
func (c *containerConfig) defaults() *spec.HostDefaults {
	d := &spec.HostDefaults{
		Log: container.LogConfig{Type: c.LogDriver, Config: c.LogOpts}, Ulimits: c.Ulimits, ShmSize: int64(c.ShmSize),
		CgroupParent: c.CgroupParent, Init: c.Init, NoNewPrivileges: c.NoNewPrivileges, Seccomp: c.seccomp,
	}
	d.IpcMode, d.CgroupnsMode = container.IpcMode(c.IpcMode), container.CgroupnsMode(c.CgroupnsMode)
	return d
}

// objectType is the type of NAME=VALUE, which is an object in the configuration file.
const objectType = "object"

// objectValue gathers NAME=VALUE, of which each name may be given once.
type objectValue struct{ all *map[string]string }

func (v objectValue) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return errors.New("want NAME=VALUE")
	}
	if _, twice := (*v.all)[name]; twice {
		return fmt.Errorf("%s is given twice", name)
	}
	if *v.all == nil {
		*v.all = map[string]string{}
	}
	(*v.all)[name] = value
	return nil
}

func (v objectValue) String() string {
	if v.all == nil {
		return ""
	}
	return strings.Join(sortedPairs(*v.all), " ")
}

func (v objectValue) Type() string { return objectType }

// objectWords turns the object of a key into what Set takes.
func objectWords(raw json.RawMessage) ([]string, error) {
	var all map[string]string
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf(`want an object of strings such as {"max-size": "10m"}, not %s`, raw)
	}
	return sortedPairs(all), nil
}

func sortedPairs(all map[string]string) []string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		words = append(words, name+"="+all[name])
	}
	return words
}

// ulimitsType is the type of limits: objects by name in the configuration file.
const ulimitsType = "ulimits"

// ulimitsValue gathers limits of processes.
type ulimitsValue struct{ list *[]*container.Ulimit }

func (v ulimitsValue) Set(s string) error {
	l, err := units.ParseUlimit(s)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(*v.list, func(u *container.Ulimit) bool { return u.Name == l.Name }) {
		return fmt.Errorf("%s is given twice", l.Name)
	}
	*v.list = append(*v.list, (*container.Ulimit)(l))
	return nil
}

func (v ulimitsValue) String() string {
	var words []string
	for _, l := range *v.list {
		words = append(words, l.String())
	}
	return strings.Join(words, " ")
}

func (v ulimitsValue) Type() string { return ulimitsType }

// ulimitWords turns the object of the key into what Set takes.
func ulimitWords(raw json.RawMessage) ([]string, error) {
	var all map[string]struct {
		Name string
		Soft *int64
		Hard *int64
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf(`want an object such as {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 4096}}, not %s`, raw)
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		l := all[name]
		switch {
		case l.Name != "" && l.Name != name:
			return nil, fmt.Errorf("%s is called %q in it", name, l.Name)
		case l.Soft == nil || l.Hard == nil:
			return nil, fmt.Errorf("%s: want Soft and Hard", name)
		}
		words = append(words, fmt.Sprintf("%s=%d:%d", name, *l.Soft, *l.Hard))
	}
	return words, nil
}
