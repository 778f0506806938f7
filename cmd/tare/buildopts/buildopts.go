// Package buildopts is the command line of builds, for the program that builds and for
// help and completion of the one that runs it.
package buildopts

import (
	"os"

	"github.com/spf13/pflag"

	"github.com/tare-engine/tare/cmd/tare/opts"
)

// Options are the command line, as it was given.
type Options struct {
	Context string // PATH, URL or -

	AddHosts, Allow, Annotations, Args, CacheFrom, CacheTo, Contexts, Labels, NoCacheFilter, Outputs, Platforms, Secrets, SSH, Tags, Ulimits, Attests []string

	Call, CgroupParent, File, IIDFile, MetadataFile, Network, OnFailure, Progress, SBOM, Provenance, ShmSize, Target string

	// Notes are what is to be said of flags that do nothing.
	Notes []string

	Check, Load, NoCache, Pull, Push, Quiet, Verify bool
}

// Add defines the flags.
func (o *Options) Add(f *pflag.FlagSet) {
	f.StringArrayVar(&o.AddHosts, "add-host", nil, "Add a custom host-to-IP mapping (format: \"host:ip\")")
	f.StringArrayVar(&o.Allow, "allow", nil, "Allow extra privileged entitlement (e.g., \"network.host\", \"device\")")
	f.StringArrayVar(&o.Annotations, "annotation", nil, "Add annotation to the image")
	f.StringArrayVar(&o.Attests, "attest", nil, "Attestation parameters (format: \"type=sbom,generator=image\")")
	f.StringArrayVar(&o.Args, "build-arg", nil, "Set build-time variables")
	f.StringArrayVar(&o.Contexts, "build-context", nil, "Additional build contexts (e.g., name=path)")
	f.StringArrayVar(&o.CacheFrom, "cache-from", nil, "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")")
	f.StringArrayVar(&o.CacheTo, "cache-to", nil, "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")")
	f.StringVar(&o.Call, "call", "build", "Set method for evaluating build (\"check\", \"outline\", \"targets\")")
	f.BoolVar(&o.Check, "check", false, "Shorthand for \"--call=check\"")
	f.StringVar(&o.CgroupParent, "cgroup-parent", "", "Set the parent cgroup for the \"RUN\" instructions during build")
	f.StringVarP(&o.File, "file", "f", "", "Name of the Dockerfile (default: \"PATH/Dockerfile\")")
	f.StringVar(&o.IIDFile, "iidfile", "", "Write the image ID to a file")
	f.StringArrayVar(&o.Labels, "label", nil, "Set metadata for an image")
	f.BoolVar(&o.Load, "load", false, "Shorthand for \"--output=type=docker\"")
	f.StringVar(&o.MetadataFile, "metadata-file", "", "Write build result metadata to a file")
	f.StringVar(&o.Network, "network", "default", "Set the networking mode for the \"RUN\" instructions during build")
	f.BoolVar(&o.NoCache, "no-cache", false, "Do not use cache when building the image")
	f.StringArrayVar(&o.NoCacheFilter, "no-cache-filter", nil, "Do not cache specified stages")
	f.StringVar(&o.OnFailure, "on-failure", "", "What to do when a RUN step fails: \"shell\" runs one in what it has left")
	f.StringArrayVarP(&o.Outputs, "output", "o", nil, "Output destination (format: \"type=local,dest=path\")")
	f.StringArrayVar(&o.Platforms, "platform", nil, "Set target platform for build")
	f.StringVar(&o.Progress, "progress", envOr("BUILDKIT_PROGRESS", "auto"), "Set type of progress output (\"auto\", \"quiet\", \"plain\", \"tty\", \"rawjson\"). Use plain to show container output")
	f.StringVar(&o.Provenance, "provenance", "", "Shorthand for \"--attest=type=provenance\"")
	f.BoolVar(&o.Pull, "pull", false, "Always attempt to pull all referenced images")
	f.BoolVar(&o.Push, "push", false, "Shorthand for \"--output=type=registry\"")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
	f.StringVar(&o.SBOM, "sbom", "", "Shorthand for \"--attest=type=sbom\"")
	f.StringArrayVar(&o.Secrets, "secret", nil, "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")")
	f.StringVar(&o.ShmSize, "shm-size", "", "Shared memory size for build containers")
	f.StringArrayVar(&o.SSH, "ssh", nil, "SSH agent socket or keys to expose to the build (format: \"default|<id>[=<socket>|<key>[,<key>]]\")")
	f.StringArrayVarP(&o.Tags, "tag", "t", nil, "Image identifier (format: \"[registry/]repository[:tag]\")")
	f.StringVar(&o.Target, "target", "", "Set the target build stage to build")
	f.StringArrayVar(&o.Ulimits, "ulimit", nil, "Ulimit options")
	f.BoolVar(&o.Verify, "verify", false, "Build twice without cache first, and fail if a file of the results differs")
	o.addLegacy(f)
	opts.CallValues(f, "list", "add-host", "build-arg", "label", "tag")
	opts.CallValues(f, "bytes", "shm-size")
	opts.CallValues(f, "ulimit", "ulimit")
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
