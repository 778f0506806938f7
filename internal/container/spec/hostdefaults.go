package spec

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/api"
)

// HostDefaults are what an engine's new containers get that do not say otherwise. They
// are written into a container's configuration when it is made, where they can be seen,
// and stay there.
type HostDefaults struct {
	Log             container.LogConfig // its options are of this driver
	Ulimits         []*container.Ulimit
	ShmSize         int64 // bytes; 0: ours
	IpcMode         container.IpcMode
	CgroupnsMode    container.CgroupnsMode
	CgroupParent    string
	Init            bool
	NoNewPrivileges bool
	Seccomp         string // "": ours; "unconfined", or a profile in JSON
}

// Apply fills in what a create request leaves out.
func (d *HostDefaults) Apply(h *container.HostConfig) {
	DefaultLog(&h.LogConfig, d.Log)
	for _, u := range d.Ulimits {
		if !slices.ContainsFunc(h.Ulimits, func(own *container.Ulimit) bool { return own != nil && own.Name == u.Name }) {
			h.Ulimits = append(h.Ulimits, u)
		}
	}
	setDefault(&h.ShmSize, d.ShmSize)
	setDefault(&h.IpcMode, d.IpcMode)
	if !h.Privileged { // whose groups are the host's where the engine's default says private
		setDefault(&h.CgroupnsMode, d.CgroupnsMode)
	}
	setDefault(&h.CgroupParent, d.CgroupParent)
	if h.Init == nil && d.Init && h.Annotations[api.ExtensionPrefix+"systemd"] == "" { // who names systemd names the first process
		h.Init = new(true)
	}
	if d.NoNewPrivileges && !hasSecurityOpt(h, "no-new-privileges") {
		h.SecurityOpt = append(h.SecurityOpt, "no-new-privileges=true")
	}
	if d.Seccomp != "" && !h.Privileged && !hasSecurityOpt(h, "seccomp") {
		h.SecurityOpt = append(h.SecurityOpt, "seccomp="+d.Seccomp)
	}
}

// hasSecurityOpt reports whether a request has an option, by its key.
func hasSecurityOpt(h *container.HostConfig, key string) bool {
	return slices.ContainsFunc(h.SecurityOpt, func(opt string) bool {
		i := strings.IndexAny(opt, "=:")
		return opt == key || i >= 0 && opt[:i] == key
	})
}

// Check refuses defaults with which no container could be made.
func (d *HostDefaults) Check() error {
	if err := ValidateLog(d.Log); err != nil {
		return err
	}
	h := &container.HostConfig{}
	d.Apply(h)
	req := &container.CreateRequest{Config: &container.Config{Cmd: []string{"/"}}, HostConfig: h}
	_, err := Validate("", req, MountRules{})
	return err
}
