package volume

import (
	"regexp"

	"github.com/tare-engine/tare/internal/errdefs"
)

const namePattern = "[a-zA-Z0-9][a-zA-Z0-9_.-]"

var nameRegexp = regexp.MustCompile("^" + namePattern + "+$")

// maxName bounds a volume's name: it is a file name, and gets a prefix when the volume goes.
const maxName = 240

// CheckName refuses what cannot be a volume's name, in Docker's words.
func CheckName(name string) error {
	switch {
	case len(name) == 1:
		return errdefs.New(errdefs.InvalidArgument, "volume name is too short, names should be at least two alphanumeric characters")
	case !nameRegexp.MatchString(name):
		return errdefs.New(errdefs.InvalidArgument, "%q includes invalid characters for a local volume name, only %q are allowed. If you intended to pass a host directory, use absolute path", shown(name), namePattern)
	case len(name) > maxName:
		return errdefs.New(errdefs.InvalidArgument, "volume name %q is longer than %d bytes", shown(name), maxName)
	}
	return nil
}

// shown cuts a value that goes into an error text.
func shown(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
