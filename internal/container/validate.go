package container

import "regexp"

const namePattern = "[a-zA-Z0-9][a-zA-Z0-9_.-]"

var nameRegexp = regexp.MustCompile("^" + namePattern + "+$")

// validName reports whether s can name a container or a volume.
func validName(s string) bool { return len(s) <= 255 && nameRegexp.MatchString(s) }
