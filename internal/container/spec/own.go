package spec

import (
	"fmt"
	"slices"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/health"
)

// OwnOf returns the options that Docker does not have of a request that was
// validated.
func OwnOf(h *container.HostConfig) api.Extensions {
	own, _ := api.ReadExtensions(h.Annotations) // it was validated
	return own
}

// validateOwn checks those options of a request. Its image may yet bring what a
// startup probe needs: see ValidateStartup.
func validateOwn(h *container.HostConfig) error {
	own, err := api.ReadExtensions(h.Annotations)
	if err != nil {
		return invalid("%w", err)
	}
	if p := h.RestartPolicy; own.OnUnhealthy == "restart" && p.Name != "" && !p.IsNone() {
		return invalid("tare.health-on-failure=restart and the restart policy %s: only one of them can restart the container; with a policy, use kill", p.Name)
	}
	if own.TimeZone != "" {
		if _, err := ZoneFile(own.TimeZone); err != nil {
			return err
		}
	}
	if err := validateStartup(h, own.Startup); err != nil {
		return err
	}
	if err := validateLimits(h, own.Network); err != nil {
		return err
	}
	return validateSystemd(h, own.Systemd)
}

// ValidateOptions checks options that are about to be changed; h has them already.
func ValidateOptions(h *container.HostConfig, changed map[string]string) error {
	if len(changed) == 0 {
		return invalid("Options says which options change")
	}
	for _, name := range sortedKeysOf(changed) {
		if !slices.ContainsFunc(api.ExtensionTable, func(x api.Extension) bool { return x.Live && x.Annotation() == name }) {
			return invalid("%s cannot be changed when the container has been made", shown(name))
		}
	}
	if why := unlimited(h.NetworkMode); why != "" {
		return invalid("%s: %s", sortedKeysOf(changed)[0], why)
	}
	return validateOwn(h)
}

// validateLimits refuses limits for a container that has no link of its own.
func validateLimits(h *container.HostConfig, l api.NetworkLimits) error {
	if why := unlimited(h.NetworkMode); why != "" && l != (api.NetworkLimits{}) {
		return invalid("%snet-*: %s", api.ExtensionPrefix, why)
	}
	return nil
}

// unlimited says why the links of containers of a mode have no limits, "" if they may.
func unlimited(mode container.NetworkMode) string {
	_, isPath := NetworkPath(mode)
	switch {
	case mode.IsNone():
		return "with the network mode none a container has no link that could be limited"
	case mode.IsHost(), mode.IsContainer(), isPath:
		return fmt.Sprintf("with the network mode %s the links are not the container's own: limit those of whose they are", mode)
	}
	return ""
}

func validateStartup(h *container.HostConfig, p api.StartupProbe) error {
	if p.Test == nil {
		if p.Interval != 0 || p.Timeout != 0 || p.Retries != 0 || p.Successes != 0 {
			return invalid("tare.health-startup-interval, -timeout, -retries and -success are of a startup probe: there is none, such as tare.health-startup-cmd")
		}
		return nil
	}
	if p.Retries > 0 && h.AutoRemove {
		return invalid("tare.health-startup-retries restarts the container, which --rm removes: only one of them is possible")
	}
	if err := health.Check(p.Test); err != nil {
		return invalid("the startup probe: %w", err)
	}
	return nil
}

// ValidateStartup refuses a startup probe without the health check that would
// follow it. The image's configuration is part of c by now.
func ValidateStartup(c *container.Config, h *container.HostConfig) error {
	if OwnOf(h).Startup.Test == nil || c.Healthcheck != nil && health.Enabled(c.Healthcheck.Test) {
		return nil
	}
	return invalid("the startup probe needs a health check that begins when it has succeeded: neither the request nor the image has one")
}
