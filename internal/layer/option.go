package layer

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"

	"github.com/tare-engine/tare/internal/errdefs"
)

// KeyValue splits an option of a driver, such as overlay.size=10G. Keys have no
// capitals.
func KeyValue(option string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(option, "=")
	return strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value), ok && key != ""
}

// NotKeyValue is dockerd's answer to an option that is not KEY=VALUE.
func NotKeyValue(option string) error {
	return fmt.Errorf("Unable to parse key/value option: %s", option) //lint:ignore ST1005 dockerd's text
}

// ParseSize reads a limit such as 10G: more than 0 bytes. Errors are
// InvalidArgument.
func ParseSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil {
		return 0, errdefs.New(errdefs.InvalidArgument, "%w", err)
	}
	if n <= 0 {
		return 0, errdefs.New(errdefs.InvalidArgument, "invalid size: '%s': it must be more than 0", s)
	}
	return n, nil
}
