package spec

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
)

// Options that Docker does not have come as annotations, so that Docker's
// clients can give them too (docs/decisions/0012-options-as-annotations.md).
const (
	ownPrefix = "tare."

	// TimeoutAnnotation is how long a run may take, in whole seconds.
	TimeoutAnnotation = "tare.timeout"
	// UnhealthyAnnotation is what happens to a container that becomes unhealthy.
	UnhealthyAnnotation = "tare.health-on-failure"
)

// Own are those of our options that are about the run. The zero value asks for
// nothing.
type Own struct {
	Timeout     time.Duration // 0: none
	OnUnhealthy string        // "kill", "stop", "restart"; "": nothing
}

// maxTimeout keeps the seconds within a time.Duration.
const maxTimeout = 100 * 365 * 24 * 60 * 60

// OwnOf returns our options of a request that was validated.
func OwnOf(h *container.HostConfig) Own {
	var o Own
	seconds, _ := strconv.ParseUint(h.Annotations[TimeoutAnnotation], 10, 63)
	o.Timeout = time.Duration(seconds) * time.Second
	if a := h.Annotations[UnhealthyAnnotation]; a != "none" {
		o.OnUnhealthy = a
	}
	return o
}

func validateOwn(h *container.HostConfig) error {
	for key, value := range h.Annotations {
		if !strings.HasPrefix(key, ownPrefix) {
			continue
		}
		var err error
		switch key {
		case SystemdAnnotation: // validateSystemd
		case TimeoutAnnotation:
			err = validateTimeout(value)
		case UnhealthyAnnotation:
			err = validateOnUnhealthy(h, value)
		default:
			err = invalid("unknown annotation %q: what begins with %q is an option of this engine, which has %s, %s and %s", shown(key), ownPrefix, UnhealthyAnnotation, SystemdAnnotation, TimeoutAnnotation)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func validateTimeout(value string) error {
	if n, err := strconv.ParseUint(value, 10, 63); err != nil || n > maxTimeout {
		return invalid("invalid %s %q: must be a whole number of seconds, 0 for no limit", TimeoutAnnotation, shown(value))
	}
	return nil
}

func validateOnUnhealthy(h *container.HostConfig, value string) error {
	if !slices.Contains([]string{"none", "kill", "restart", "stop"}, value) {
		return invalid("invalid %s %q: must be none, kill, restart or stop", UnhealthyAnnotation, shown(value))
	}
	if p := h.RestartPolicy; value == "restart" && p.Name != "" && !p.IsNone() {
		return invalid("%s=restart and the restart policy %s: only one of them can restart the container; with a policy, use kill", UnhealthyAnnotation, p.Name)
	}
	return nil
}
