package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/spf13/pflag"
)

// options are the command line.
type options struct {
	context string // PATH, URL or -

	addHosts, allow, annotations, args, cacheFrom, cacheTo, contexts, labels, noCacheFilter, outputs, platforms, secrets, ssh, tags, ulimits, attests []string

	call, cgroupParent, file, iidFile, metadataFile, network, progress, sbom, provenance, shmSize, target string

	check, load, noCache, pull, push, quiet bool

	made []string // directories for this build
}

func (o *options) add(f *pflag.FlagSet) {
	f.StringArrayVar(&o.addHosts, "add-host", nil, "Add a custom host-to-IP mapping (format: \"host:ip\")")
	f.StringArrayVar(&o.allow, "allow", nil, "Allow extra privileged entitlement (e.g., \"network.host\", \"device\")")
	f.StringArrayVar(&o.annotations, "annotation", nil, "Add annotation to the image")
	f.StringArrayVar(&o.attests, "attest", nil, "Attestation parameters (format: \"type=sbom,generator=image\")")
	f.StringArrayVar(&o.args, "build-arg", nil, "Set build-time variables")
	f.StringArrayVar(&o.contexts, "build-context", nil, "Additional build contexts (e.g., name=path)")
	f.StringArrayVar(&o.cacheFrom, "cache-from", nil, "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")")
	f.StringArrayVar(&o.cacheTo, "cache-to", nil, "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")")
	f.StringVar(&o.call, "call", "build", "Set method for evaluating build (\"check\", \"outline\", \"targets\")")
	f.BoolVar(&o.check, "check", false, "Shorthand for \"--call=check\"")
	f.StringVar(&o.cgroupParent, "cgroup-parent", "", "Set the parent cgroup for the \"RUN\" instructions during build")
	f.StringVarP(&o.file, "file", "f", "", "Name of the Dockerfile (default: \"PATH/Dockerfile\")")
	f.StringVar(&o.iidFile, "iidfile", "", "Write the image ID to a file")
	f.StringArrayVar(&o.labels, "label", nil, "Set metadata for an image")
	f.BoolVar(&o.load, "load", false, "Shorthand for \"--output=type=docker\"")
	f.StringVar(&o.metadataFile, "metadata-file", "", "Write build result metadata to a file")
	f.StringVar(&o.network, "network", "default", "Set the networking mode for the \"RUN\" instructions during build")
	f.BoolVar(&o.noCache, "no-cache", false, "Do not use cache when building the image")
	f.StringArrayVar(&o.noCacheFilter, "no-cache-filter", nil, "Do not cache specified stages")
	f.StringArrayVarP(&o.outputs, "output", "o", nil, "Output destination (format: \"type=local,dest=path\")")
	f.StringArrayVar(&o.platforms, "platform", nil, "Set target platform for build")
	f.StringVar(&o.progress, "progress", envOr("BUILDKIT_PROGRESS", "auto"), "Set type of progress output (\"auto\", \"quiet\", \"plain\", \"tty\", \"rawjson\"). Use plain to show container output")
	f.StringVar(&o.provenance, "provenance", "", "Shorthand for \"--attest=type=provenance\"")
	f.BoolVar(&o.pull, "pull", false, "Always attempt to pull all referenced images")
	f.BoolVar(&o.push, "push", false, "Shorthand for \"--output=type=registry\"")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
	f.StringVar(&o.sbom, "sbom", "", "Shorthand for \"--attest=type=sbom\"")
	f.StringArrayVar(&o.secrets, "secret", nil, "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")")
	f.StringVar(&o.shmSize, "shm-size", "", "Shared memory size for build containers")
	f.StringArrayVar(&o.ssh, "ssh", nil, "SSH agent socket or keys to expose to the build (format: \"default|<id>[=<socket>|<key>[,<key>]]\")")
	f.StringArrayVarP(&o.tags, "tag", "t", nil, "Image identifier (format: \"[registry/]repository[:tag]\")")
	f.StringVar(&o.target, "target", "", "Set the target build stage to build")
	f.StringArrayVar(&o.ulimits, "ulimit", nil, "Ulimit options")
	// Scripts of the time before BuildKit have these; both are how things are.
	f.Bool("rm", true, "Remove intermediate containers after a successful build")
	f.Bool("force-rm", false, "Always remove intermediate containers")
	_ = f.MarkHidden("rm")
	_ = f.MarkHidden("force-rm")
	for _, name := range []string{"provenance", "sbom"} {
		f.Lookup(name).NoOptDefVal = "true"
	}
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// mode is how progress is shown.
func (o *options) mode() (progressui.DisplayMode, error) {
	modes := []string{"auto", "quiet", "plain", "tty", "rawjson"}
	switch {
	case !slices.Contains(modes, o.progress):
		return "", fmt.Errorf("invalid progress mode %q: use one of %s", o.progress, strings.Join(modes, ", "))
	case o.quiet && o.progress != "auto" && o.progress != "quiet":
		return "", errors.New("progress=" + o.progress + " and quiet cannot be used together")
	case o.quiet:
		return progressui.QuietMode, nil
	}
	return progressui.DisplayMode(o.progress), nil
}

// attrs are the options that the Dockerfile's frontend reads.
func (o *options) attrs() (map[string]string, error) {
	a := map[string]string{"image-resolve-mode": "local"}
	if o.pull {
		a["image-resolve-mode"] = "pull"
	}
	if o.target != "" {
		a["target"] = o.target
	}
	if o.noCache && len(o.noCacheFilter) > 0 {
		return nil, errors.New("--no-cache and --no-cache-filter cannot be used together")
	}
	if o.noCache || len(o.noCacheFilter) > 0 {
		a["no-cache"] = strings.Join(o.noCacheFilter, ",")
	}
	if o.cgroupParent != "" {
		a["cgroup-parent"] = o.cgroupParent
	}
	if err := o.listed(a); err != nil {
		return nil, err
	}
	switch o.network {
	case "", "default":
	case "host", "none":
		a["force-network-mode"] = o.network
	default:
		return nil, fmt.Errorf("network mode %q not supported by BuildKit: use default, host or none", o.network)
	}
	if o.shmSize != "" {
		n, err := units.RAMInBytes(o.shmSize)
		if err != nil {
			return nil, fmt.Errorf("invalid argument %q for --shm-size: %w", o.shmSize, err)
		}
		a["shm-size"] = fmt.Sprint(n)
	}
	return a, o.attestations(a)
}

// listed adds the options that may be given several times.
func (o *options) listed(a map[string]string) error {
	for _, arg := range o.args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok {
			if v, ok = os.LookupEnv(k); !ok {
				continue // unset here: the Dockerfile's default counts
			}
		}
		a["build-arg:"+k] = v
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "SOURCE_DATE_EPOCH"} {
		for _, n := range []string{name, strings.ToLower(name)} {
			if v := os.Getenv(n); v != "" && name == "SOURCE_DATE_EPOCH" && a["build-arg:"+n] == "" {
				a["build-arg:"+n] = v
			}
		}
	}
	for _, l := range o.labels {
		k, v, _ := strings.Cut(l, "=")
		a["label:"+k] = v
	}
	if len(o.platforms) > 0 {
		a["platform"] = strings.Join(o.platforms, ",")
	}
	var hosts, limits []string
	for _, h := range o.addHosts {
		name, ip, ok := strings.Cut(strings.Replace(h, "=", ":", 1), ":")
		if !ok || name == "" || ip == "" {
			return fmt.Errorf("bad format for add-host: %q", h)
		}
		hosts = append(hosts, name+"="+strings.Trim(ip, "[]"))
	}
	if len(hosts) > 0 {
		a["add-hosts"] = strings.Join(hosts, ",")
	}
	for _, u := range o.ulimits {
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

// attestations adds what is to be told about the build.
func (o *options) attestations(a map[string]string) error {
	list := slices.Clone(o.attests)
	for kind, v := range map[string]string{"provenance": o.provenance, "sbom": o.sbom} {
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
