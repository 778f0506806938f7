package main

import (
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/cmd/tare/manifestlist"
)

type manifestAnnotateOptions struct {
	arch, os, osVersion, variant string
	osFeatures                   []string
}

func newManifestAnnotateCommand(c *cli) *cobra.Command {
	var o manifestAnnotateOptions
	cmd := &cobra.Command{
		Use:   "annotate [OPTIONS] MANIFEST_LIST MANIFEST",
		Short: "Say what a manifest of a manifest list is made for",
		Args:  exactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return runManifestAnnotate(c.manifestLists(), o, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.arch, "arch", "", "Architecture, such as arm64")
	f.StringVar(&o.os, "os", "", "Operating system, such as linux")
	f.StringSliceVar(&o.osFeatures, "os-features", nil, "Features that the operating system must have; they are added")
	f.StringVar(&o.osVersion, "os-version", "", "Version of the operating system")
	f.StringVar(&o.variant, "variant", "", "Variant of the architecture, such as v7")
	return cmd
}

func runManifestAnnotate(store manifestlist.Store, o manifestAnnotateOptions, list, image string) error {
	target, err := normalize(list)
	if err != nil {
		return fmt.Errorf("annotate: error parsing name for manifest list %s: %w", list, err)
	}
	ref, err := normalize(image)
	if err != nil {
		return fmt.Errorf("annotate: error parsing name for manifest %s: %w", image, err)
	}
	m, err := store.Get(target, ref)
	if manifestlist.IsNotFound(err) {
		return fmt.Errorf("manifest for image %s does not exist in %s", image, list)
	}
	if err != nil {
		return err
	}
	if m.Descriptor.Platform == nil {
		m.Descriptor.Platform = &ocispec.Platform{}
	}
	o.apply(m.Descriptor.Platform)
	if p := m.Descriptor.Platform; !isPlatform(p.OS, p.Architecture) {
		return fmt.Errorf("manifest entry for image has unsupported os/arch combination: %s/%s", o.os, o.arch)
	}
	return store.Save(target, m)
}

// apply changes what was given.
func (o manifestAnnotateOptions) apply(p *ocispec.Platform) {
	change := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	change(&p.OS, o.os)
	change(&p.Architecture, o.arch)
	change(&p.OSVersion, o.osVersion)
	change(&p.Variant, o.variant)
	for _, f := range o.osFeatures {
		if !slices.Contains(p.OSFeatures, f) {
			p.OSFeatures = append(p.OSFeatures, f)
		}
	}
}

// architectures that Go has for an operating system. Docker's list ends before
// loong64, and before arm64 and riscv64 outside of Linux.
var architectures = map[string]string{
	"darwin":    "386 amd64 arm arm64",
	"dragonfly": "amd64",
	"freebsd":   "386 amd64 arm arm64 riscv64",
	"linux":     "386 amd64 arm arm64 loong64 mips64 mips64le ppc64le riscv64 s390x",
	"netbsd":    "386 amd64 arm arm64",
	"openbsd":   "386 amd64 arm arm64 riscv64",
	"plan9":     "386 amd64",
	"solaris":   "amd64",
	"windows":   "386 amd64 arm64",
}

func isPlatform(os, arch string) bool {
	return slices.Contains(strings.Fields(architectures[os]), arch)
}
