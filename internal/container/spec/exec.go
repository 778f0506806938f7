package spec

import (
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/linux/caps"
)

// ExecInput is what a further process of a running container is made of.
type ExecInput struct {
	Config     *container.Config
	HostConfig *container.HostConfig
	Request    *container.ExecCreateRequest
	Root       *os.File // of the running container: users are looked up there
	AppArmor   string   // as in Input
}

// OfExec makes the process of an exec and the filter it runs under: those of
// the container, with what the request changes.
func OfExec(in ExecInput) (*specs.Process, *specs.LinuxSeccomp, error) {
	security, err := parseSecurityOpts(in.HostConfig.SecurityOpt)
	if err != nil {
		return nil, nil, err
	}
	name := in.Request.User
	if name == "" {
		name = in.Config.User
	}
	u, err := lookupUser(in.Root, name, in.HostConfig.GroupAdd)
	if err != nil {
		return nil, nil, err
	}
	list, err := capabilitiesOf(in.HostConfig.CapAdd, in.HostConfig.CapDrop, in.HostConfig.Privileged)
	if err != nil {
		return nil, nil, err
	}
	privileged := in.HostConfig.Privileged || in.Request.Privileged
	if privileged {
		list = caps.Supported()
	}
	hostname := in.Config.Hostname
	if in.HostConfig.UTSMode.IsHost() {
		if hostname, err = os.Hostname(); err != nil {
			return nil, nil, err
		}
	}
	p := &specs.Process{
		Terminal: in.Request.Tty, User: u.User, Args: in.Request.Cmd, Cwd: cwdOf(in),
		Env:             environment(hostname, u.Home, in.Request.Tty, append(append([]string{}, in.Config.Env...), in.Request.Env...)),
		NoNewPrivileges: security.noNewPrivileges, OOMScoreAdj: &in.HostConfig.OomScoreAdj,
		Capabilities: grant(list, u.UID),
	}
	p.User.Umask = in.HostConfig.Umask
	for _, l := range in.HostConfig.Ulimits {
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Hard: uint64(l.Hard), Soft: uint64(l.Soft)})
	}
	p.ApparmorProfile = appArmorOf(in.HostConfig, in.AppArmor)
	profile, err := seccompOf(security.seccomp, in.HostConfig.Privileged, list)
	return p, profile, err
}

func cwdOf(in ExecInput) string {
	for _, dir := range []string{in.Request.WorkingDir, in.Config.WorkingDir} {
		if dir != "" {
			return dir
		}
	}
	return "/"
}
