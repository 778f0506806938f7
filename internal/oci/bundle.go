package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/caps"
	"github.com/tare-engine/tare/internal/linux/cgroup"
)

// maxConfig bounds config.json: a spec has megabytes of arguments at most.
const maxConfig = 16 << 20

// bundle is a bundle as it was read.
type bundle struct {
	dir, rootfs string
	raw         []byte // of config.json
	spec        *specs.Spec
}

// openBundle reads a bundle and checks what does not need the kernel's opinion.
func openBundle(dir string) (*bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	b := &bundle{dir: dir}
	if b.raw, err = readConfig(dir + "/" + configFile); err != nil {
		return nil, err
	}
	if b.spec, err = parseSpec(b.raw); err != nil {
		return nil, err
	}
	if b.spec.Root == nil {
		return nil, errors.New("root must be specified")
	}
	b.rootfs = b.spec.Root.Path
	if !filepath.IsAbs(b.rootfs) {
		b.rootfs = filepath.Join(dir, b.rootfs)
	}
	if b.rootfs, err = filepath.EvalSymlinks(b.rootfs); err != nil {
		return nil, fmt.Errorf("invalid rootfs: %w", err)
	}
	return b, checkSpec(b.spec)
}

func readConfig(name string) ([]byte, error) {
	st, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("JSON specification file %s not found", filepath.Base(name))
	}
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxConfig {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", name, maxConfig)
	}
	return os.ReadFile(name)
}

// onLinux is a spec whose sections for other systems are not looked into: the
// decoder reflects on all types that it may meet, and these are half of them.
type onLinux struct {
	specs.Spec
	Solaris *json.RawMessage `json:"solaris"`
	Windows *json.RawMessage `json:"windows"`
	VM      *json.RawMessage `json:"vm"`
	ZOS     *json.RawMessage `json:"zos"`
	FreeBSD *json.RawMessage `json:"freebsd"`
}

func parseSpec(b []byte) (*specs.Spec, error) {
	var s onLinux
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	for section, there := range map[string]bool{
		"solaris": s.Solaris != nil, "windows": s.Windows != nil, "vm": s.VM != nil, "zos": s.ZOS != nil, "freebsd": s.FreeBSD != nil,
	} {
		if there {
			return nil, fmt.Errorf("%s: the section %q is for another system than linux", configFile, section)
		}
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	return &s.Spec, nil
}

// checkSpec refuses what cannot be a container.
func checkSpec(s *specs.Spec) error {
	if s.Process == nil {
		return errors.New("process property must not be empty")
	}
	if err := checkVersion(s.Version); err != nil {
		return err
	}
	if s.Hostname != "" && !has(s, specs.UTSNamespace) {
		return errors.New("unable to set hostname without a private UTS namespace")
	}
	if err := checkListener(s.Linux.Seccomp); err != nil {
		return err
	}
	return CheckProcess(s.Process)
}

// checkVersion takes every 1.x, as the specification's minor versions add
// fields only.
func checkVersion(v string) error {
	major, rest, ok := strings.Cut(v, ".")
	if !ok || major != "1" || rest == "" {
		return fmt.Errorf("unsupported spec version %q: 1.x is supported", v)
	}
	return nil
}

// CheckProcess refuses what can be no process.
func CheckProcess(p *specs.Process) error {
	switch {
	case p.Cwd == "":
		//lint:ignore ST1005 runc's text
		return errors.New("Cwd property must not be empty")
	case !filepath.IsAbs(p.Cwd):
		//lint:ignore ST1005 runc's text
		return errors.New("Cwd must be an absolute path")
	case len(p.Args) == 0:
		return errors.New("args must not be empty")
	}
	return nil
}

func has(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == t {
			return true
		}
	}
	return false
}

// dropUnknownCaps takes out of the process's sets what this kernel does not
// know, as the specification allows with a warning: the names.
func dropUnknownCaps(p *specs.Process) (unknown []string) {
	if p.Capabilities == nil {
		return nil
	}
	known := map[string]bool{}
	for _, n := range caps.Available().Names() {
		known[n] = true
	}
	c := *p.Capabilities
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted, &c.Inheritable, &c.Ambient} {
		var keep []string
		for _, n := range *set {
			if known[n] {
				keep = append(keep, n)
			} else {
				unknown = append(unknown, n)
			}
		}
		*set = keep
	}
	p.Capabilities = &c
	return unknown
}

// resourcesOf are the limits of the container's cgroup. What the container
// needs of devices in any case is allowed after the spec's own rules.
func resourcesOf(s *specs.Spec) *specs.LinuxResources {
	r := specs.LinuxResources{}
	if s.Linux.Resources != nil {
		r = *s.Linux.Resources
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range r.Devices {
		if d.Access == "" {
			d.Access = "rwm"
		}
		rules = append(rules, d)
	}
	r.Devices = append(rules, cgroup.DefaultDevices()[1:]...)
	return &r
}

// cgroupOf is the path of the container's cgroup. A relative one begins at the
// hierarchy's root too.
func cgroupOf(s *specs.Spec, id string) string {
	if p := strings.Trim(filepath.Clean("/"+s.Linux.CgroupsPath), "/"); p != "" {
		return p
	}
	return id
}

// ownMounts reports whether the container has a mount namespace for itself.
func ownMounts(s *specs.Spec) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.MountNamespace {
			return n.Path == ""
		}
	}
	return false
}
