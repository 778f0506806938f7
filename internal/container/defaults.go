package container

import (
	"fmt"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/linux/apparmor"
	"github.com/tare-engine/tare/internal/runtime/external"
)

// Defaults are what the containers of an engine get that do not say otherwise,
// and where the engine has what they may ask for.
type Defaults struct {
	LogMaxSize int64 // of containers whose LogConfig names none; in bytes
	LogMaxFile int
	AppArmor   *apparmor.Default // profile of containers that name none; nil: none
	Remap      *idrange.Map      // ids of containers; nil: those of the host

	InitPath string             // tare-init, for --init; empty: there is none
	Runtimes *external.Runtimes // for --runtime
	CDIDirs  []string           // of descriptions of devices (--device vendor.com/class=name)
	Systemd  bool               // control groups of containers are scopes of systemd's
}

// AppArmorName is the name of the profile of containers that name none; empty:
// they have none.
func (d *Defaults) AppArmorName() string {
	if d.AppArmor == nil {
		return ""
	}
	return apparmor.DefaultName
}

// appArmor is AppArmorName. If this container will be under the profile, it is
// loaded when it returns.
func (d *Defaults) appArmor(h *container.HostConfig) (string, error) {
	name := d.AppArmorName()
	if name != "" && spec.AppArmorProfile(h, name) == name {
		if err := d.AppArmor.Ensure(); err != nil {
			return "", fmt.Errorf("AppArmor enabled on system but the %s profile could not be loaded: %w", name, err)
		}
	}
	return name, nil
}
