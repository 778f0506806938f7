package api

import (
	"strconv"
	"strings"
)

// Versions of the Engine API that the engine speaks.
var (
	MinVersion = Version{1, 24}
	MaxVersion = Version{1, 56}
)

// Version is a version of the Engine API. The zero value is older than all.
type Version struct{ Major, Minor int }

// ParseVersion reads "1.44". Parts after the second are ignored, as Docker's
// comparison treats "1.44.0" like "1.44"; a missing minor is zero.
func ParseVersion(s string) (Version, bool) {
	major, rest, _ := strings.Cut(s, ".")
	minor, _, _ := strings.Cut(rest, ".")
	if minor == "" {
		minor = "0"
	}
	a, errA := strconv.ParseUint(major, 10, 31)
	b, errB := strconv.ParseUint(minor, 10, 31)
	return Version{int(a), int(b)}, errA == nil && errB == nil
}

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Before reports whether v is older than 1.minor: the form in which shapes ask.
func (v Version) Before(minor int) bool { return v.Less(Version{1, minor}) }

func (v Version) String() string {
	return strconv.Itoa(v.Major) + "." + strconv.Itoa(v.Minor)
}
