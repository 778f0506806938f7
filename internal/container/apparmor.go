package container

import (
	"fmt"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/linux/apparmor"
)

// defaultAppArmor is the name of the profile for containers that name none. If
// this one will be under it, it is loaded when it returns.
func (cfg *Config) defaultAppArmor(h *container.HostConfig) (string, error) {
	if cfg.AppArmor == nil {
		return "", nil
	}
	if spec.AppArmorProfile(h, apparmor.DefaultName) == apparmor.DefaultName {
		if err := cfg.AppArmor.Ensure(); err != nil {
			return "", fmt.Errorf("AppArmor enabled on system but the %s profile could not be loaded: %w", apparmor.DefaultName, err)
		}
	}
	return apparmor.DefaultName, nil
}
