package api

import (
	"fmt"
	"strings"
)

// DefaultDetachKeys detach a client from a terminal unless it names others.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ParseDetachKeys turns "ctrl-p,q" into the bytes a terminal sends for it.
// Each part is one character, or "ctrl-" and one of a-z @ [ \ ] ^ _. The empty
// string gives no keys.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for _, part := range strings.Split(s, ",") {
		b, ok := detachKey(part)
		if !ok {
			//lint:ignore ST1005 the text is Docker's
			return nil, fmt.Errorf("Unknown character: '%s'", part)
		}
		keys = append(keys, b)
	}
	return keys, nil
}

func detachKey(part string) (byte, bool) {
	if len(part) == 1 {
		return part[0], true
	}
	c, ok := strings.CutPrefix(part, "ctrl-")
	if !ok || len(c) != 1 {
		return 0, false
	}
	switch k := c[0]; {
	case k >= 'a' && k <= 'z':
		return k - 'a' + 1, true
	case k == '@':
		return 0, true
	case k >= '[' && k <= '_':
		return k - '@', true
	}
	return 0, false
}
