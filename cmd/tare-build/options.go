package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/util/progress/progressui"

	"github.com/tare-engine/tare/cmd/tare/buildopts"
)

// request is a build on its way.
type request struct {
	buildopts.Options
	proxies []string // see engine
	made    []string // directories for this build
	call    call
	where   string // the Dockerfile, as the user calls it; "": it is not here
}

// mode is how progress is shown.
func (o *request) mode() (progressui.DisplayMode, error) {
	modes := []string{"auto", "quiet", "plain", "tty", "rawjson"}
	switch {
	case !slices.Contains(modes, o.Progress):
		return "", fmt.Errorf("invalid progress mode %q: use one of %s", o.Progress, strings.Join(modes, ", "))
	case o.Quiet && o.Progress != "auto" && o.Progress != "quiet":
		return "", errors.New("progress=" + o.Progress + " and quiet cannot be used together")
	case o.Quiet:
		return progressui.QuietMode, nil
	}
	return progressui.DisplayMode(o.Progress), nil
}

// attrs are the options that the Dockerfile's frontend reads.
func (o *request) attrs() (map[string]string, error) {
	a := map[string]string{"image-resolve-mode": "local"}
	if o.Pull {
		a["image-resolve-mode"] = "pull"
	}
	if o.Target != "" {
		a["target"] = o.Target
	}
	if o.NoCache && len(o.NoCacheFilter) > 0 {
		return nil, errors.New("--no-cache and --no-cache-filter cannot be used together")
	}
	if o.NoCache || len(o.NoCacheFilter) > 0 {
		a["no-cache"] = strings.Join(o.NoCacheFilter, ",")
	}
	if o.CgroupParent != "" {
		a["cgroup-parent"] = o.CgroupParent
	}
	if err := o.listed(a); err != nil {
		return nil, err
	}
	switch o.Network {
	case "", "default":
	case "host", "none":
		a["force-network-mode"] = o.Network
	default:
		return nil, fmt.Errorf("network mode %q not supported by BuildKit: use default, host or none", o.Network)
	}
	if o.ShmSize != "" {
		n, err := units.RAMInBytes(o.ShmSize)
		if err != nil {
			return nil, fmt.Errorf("invalid argument %q for --shm-size: %w", o.ShmSize, err)
		}
		a["shm-size"] = fmt.Sprint(n)
	}
	return a, o.attestations(a)
}

// listed adds the options that may be given several times.
func (o *request) listed(a map[string]string) error {
	for _, arg := range o.Args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok {
			if v, ok = os.LookupEnv(k); !ok {
				continue // unset here: the Dockerfile's default counts
			}
		}
		a["build-arg:"+k] = v
	}
	for _, p := range o.proxies {
		if k, v, _ := strings.Cut(p, "="); !has(a, "build-arg:"+k) {
			a["build-arg:"+k] = v
		}
	}
	for _, l := range o.Labels {
		k, v, _ := strings.Cut(l, "=")
		a["label:"+k] = v
	}
	if len(o.Platforms) > 0 {
		a["platform"] = strings.Join(o.Platforms, ",")
	}
	var hosts, limits []string
	for _, h := range o.AddHosts {
		name, ip, ok := strings.Cut(strings.Replace(h, "=", ":", 1), ":")
		if !ok || name == "" || ip == "" {
			return fmt.Errorf("bad format for add-host: %q", h)
		}
		hosts = append(hosts, name+"="+strings.Trim(ip, "[]"))
	}
	if len(hosts) > 0 {
		a["add-hosts"] = strings.Join(hosts, ",")
	}
	for _, u := range o.Ulimits {
		l, err := units.ParseUlimit(u)
		if err != nil {
			return err
		}
		limits = append(limits, l.String())
	}
	if len(limits) > 0 {
		a["ulimit"] = strings.Join(limits, ",")
	}
	return nil
}

func has(a map[string]string, key string) bool { _, ok := a[key]; return ok }

// attestations adds what is to be told about the build.
func (o *request) attestations(a map[string]string) error {
	list := slices.Clone(o.Attests)
	for kind, v := range map[string]string{"provenance": o.Provenance, "sbom": o.SBOM} {
		switch v {
		case "":
		case "true":
			list = append(list, "type="+kind)
		case "false":
			list = append(list, "type="+kind+",disabled=true")
		default:
			list = append(list, "type="+kind+","+v)
		}
	}
	for _, s := range list {
		var kind string
		var rest []string
		disabled := false
		for _, field := range strings.Split(s, ",") {
			switch k, v, _ := strings.Cut(field, "="); k {
			case "type":
				kind = v
			case "disabled":
				disabled = v == "true"
			default:
				rest = append(rest, field)
			}
		}
		if kind != "sbom" && kind != "provenance" {
			return fmt.Errorf("invalid attestation %q: type=sbom or type=provenance is required", s)
		}
		if _, twice := a["attest:"+kind]; twice {
			return fmt.Errorf("duplicate attestation field %s", kind)
		}
		if !disabled {
			a["attest:"+kind] = strings.Join(rest, ",")
		} else {
			a["attest:"+kind] = "disabled=true"
		}
	}
	for k, v := range a {
		if strings.HasPrefix(k, "attest:") && v == "disabled=true" {
			delete(a, k)
		}
	}
	return nil
}
