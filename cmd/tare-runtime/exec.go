package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/oci"
)

var execFlags = append([]flag{
	{"cwd", "", true, "current working directory in the container"},
	{"env", "e", true, "set environment variables"},
	{"tty", "t", false, "allocate a pseudo-TTY"},
	{"user", "u", true, "UID (format: <uid>[:<gid>])"},
	{"additional-gids", "g", true, "additional gids"},
	{"process", "p", true, "path to the process.json"},
	{"detach", "d", false, "detach from the container's process"},
	{"process-label", "", true, "set the asm process label for the process commonly used with selinux"},
	{"apparmor", "", true, "set the apparmor profile for the process"},
	{"no-new-privs", "", false, "set the no new privileges value for the process"},
	{"cap", "c", true, "add a capability to the bounding set for the process"},
	{"cgroup", "", true, "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>."},
	{"ignore-paused", "", false, "allow exec in a paused container"},
}, terminalFlags...)

func runExec(a *app, f values, args []string) (int, error) {
	code, err := a.exec(f, args)
	if err != nil {
		code = exitExec
	}
	return code, err
}

func (a *app) exec(f values, args []string) (int, error) {
	c, err := a.root.Open(args[0])
	if err != nil {
		return 0, err
	}
	spec, err := c.Spec()
	if err != nil {
		return 0, err
	}
	p, err := execProcess(spec.Process, f, args[1:])
	if err != nil {
		return 0, err
	}
	o := oci.ExecOptions{
		Process: p, ConsoleSocket: f.text("console-socket", ""), PidFile: f.text("pid-file", ""),
		IgnorePaused: f.has("ignore-paused"), Cgroups: f["cgroup"],
	}
	var env []string
	if o.Preserve, env, err = preserved(f); err != nil {
		return 0, err
	}
	p.Env = append(p.Env, env...)
	if f.has("detach") {
		_, err := c.Exec(o)
		return 0, err
	}
	if err := process.Subreaper(); err != nil {
		return 0, err
	}
	s := newSession()
	o.Console = s.console
	pid, err := c.Exec(o)
	if err != nil {
		return 0, err
	}
	return s.wait(pid)
}

// execProcess is the process to run: from a file, or the container's own with
// what the flags change.
func execProcess(own *specs.Process, f values, args []string) (*specs.Process, error) {
	if name := f.text("process", ""); name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		p := &specs.Process{}
		if err := json.Unmarshal(b, p); err != nil {
			return nil, err
		}
		return p, oci.CheckProcess(p)
	}
	p := *own
	p.Args, p.Terminal = args, f.has("tty")
	p.Env = append(append([]string{}, own.Env...), f["env"]...)
	p.Cwd = f.text("cwd", own.Cwd)
	p.ApparmorProfile = f.text("apparmor", own.ApparmorProfile)
	p.SelinuxLabel = f.text("process-label", own.SelinuxLabel)
	p.NoNewPrivileges = own.NoNewPrivileges || f.has("no-new-privs")
	addCaps(&p, f["cap"])
	if err := setUser(&p, f); err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return nil, errors.New("process args cannot be empty")
	}
	return &p, nil
}

// addCaps adds to all sets but the inheritable and ambient ones: a process
// that has no such sets gains none.
func addCaps(p *specs.Process, list []string) {
	if len(list) == 0 {
		return
	}
	c := specs.LinuxCapabilities{}
	if p.Capabilities != nil {
		c = *p.Capabilities
	}
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted} {
		*set = append(append([]string{}, *set...), list...)
	}
	p.Capabilities = &c
}

func setUser(p *specs.Process, f values) error {
	if user := f.text("user", ""); user != "" {
		uid, gid, both := strings.Cut(user, ":")
		n, err := parseID(uid)
		if err != nil {
			return fmt.Errorf("parsing %s as int for uid failed: %w", uid, err)
		}
		p.User.UID = n
		if both {
			if p.User.GID, err = parseID(gid); err != nil {
				return fmt.Errorf("parsing %s as int for gid failed: %w", gid, err)
			}
		}
	}
	for _, g := range f["additional-gids"] {
		n, err := parseID(g)
		if err != nil {
			return err
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids[:len(p.User.AdditionalGids):len(p.User.AdditionalGids)], n)
	}
	return nil
}

// parseID refuses what would wrap around to another user (CVE-2024-40635).
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err
}
