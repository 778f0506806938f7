package main

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/attestations"
)

// missingScanner says what to do when the image that makes an SBOM cannot be had; nil:
// the build has failed for another reason.
func missingScanner(attrs map[string]string, err error) error {
	asked, perr := attestations.Parse(attrs)
	if perr != nil || asked[attestations.KeyTypeSbom] == nil {
		return nil
	}
	image := asked[attestations.KeyTypeSbom]["generator"]
	named, perr := reference.ParseNormalizedNamed(image)
	if perr != nil || !strings.Contains(err.Error(), "failed to resolve source metadata for "+reference.TagNameOnly(named).String()+":") {
		return nil
	}
	return fmt.Errorf("an SBOM is made by a scanner, the image %s, which is not to be had: load it, or name another with --attest type=sbom,generator=IMAGE", image)
}
