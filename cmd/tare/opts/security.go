package opts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// securityOpts reads values of --security-opt. A seccomp profile is a file of
// ours, so its text is sent; "systempaths=unconfined" is no option of the
// engine but two lists made empty.
func securityOpts(values []string) (opts []string, unmasked bool, err error) {
	for _, opt := range values {
		if opt == "systempaths=unconfined" {
			unmasked = true
			continue
		}
		key, value, ok := cutOption(opt)
		if !ok && key != "no-new-privileges" {
			//lint:ignore ST1005 docker's text
			return nil, false, fmt.Errorf("Invalid --security-opt: %q", opt)
		}
		if key == "seccomp" && value != "unconfined" && value != "builtin" {
			profile, err := seccompProfile(value)
			if err != nil {
				return nil, false, err
			}
			opt = "seccomp=" + profile
		}
		opts = append(opts, opt)
	}
	return opts, unmasked, nil
}

// cutOption parts key=value; key:value is the old way to write it.
func cutOption(opt string) (key, value string, ok bool) {
	if key, value, ok = strings.Cut(opt, "="); ok {
		return key, value, true
	}
	return strings.Cut(opt, ":")
}

func seccompProfile(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("opening seccomp profile (%s) failed: %w", path, err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return "", fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", path, err)
	}
	return b.String(), nil
}

// ParseRestart reads --restart: no, always, unless-stopped, on-failure[:N].
func ParseRestart(s string) (container.RestartPolicy, error) {
	var p container.RestartPolicy
	if s == "" {
		return p, nil
	}
	name, times, hasTimes := strings.Cut(s, ":")
	if hasTimes && name == "" {
		return p, errors.New("invalid restart policy format: no policy provided before colon")
	}
	if times != "" {
		n, err := strconv.Atoi(times)
		if err != nil {
			return p, errors.New("invalid restart policy format: maximum retry count must be an integer")
		}
		p.MaximumRetryCount = n
	}
	p.Name = container.RestartPolicyMode(name)
	return p, nil
}

// capabilities writes names one way, in order and once: "net_raw" is
// CAP_NET_RAW.
func capabilities(names []string) []string {
	var list []string
	for _, name := range names {
		name = strings.ToUpper(strings.TrimSpace(name))
		if name != "ALL" && !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		list = append(list, name)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// checkSysctl lets through what belongs to a namespace of the container's own.
func checkSysctl(s string) error {
	name, _, ok := strings.Cut(s, "=")
	switch {
	case ok && (strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "fs.mqueue.")):
		return nil
	case ok && slices.Contains([]string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
	}, name):
		return nil
	}
	return fmt.Errorf("sysctl '%s' is not allowed", s)
}
