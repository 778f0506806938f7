package remote

import (
	"regexp"
	"strconv"
)

// digits is the process's id in a syslog message.
var digits = regexp.MustCompile(`([\[ ])\d+(\]: | t - )`)

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
