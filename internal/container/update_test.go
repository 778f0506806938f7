package container

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
)

func TestUpdateChangesLimitsOnly(t *testing.T) {
	to := container.Resources{CPUShares: 5, CPUQuota: 2000, Memory: 10 << 20, MemorySwap: 20 << 20, CgroupParent: "x"}
	pids := int64(7)
	from := container.Resources{
		Memory: 15 << 20, PidsLimit: &pids, CPUPeriod: 3000, CgroupParent: "y", Devices: []container.DeviceMapping{{PathOnHost: "/dev/null"}},
	}
	if err := overlayResources(&to, &from); err != nil {
		t.Fatal(err)
	}
	if to.Memory != 15<<20 || to.MemorySwap != 20<<20 || *to.PidsLimit != 7 || to.CPUShares != 5 || to.CPUQuota != 2000 || to.CPUPeriod != 3000 {
		t.Errorf("%+v", to)
	}
	from = container.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 1}}}
	if err := overlayResources(&to, &from); err != nil || len(to.BlkioDeviceReadBps) != 1 || to.Memory != 15<<20 {
		t.Errorf("%+v, %v", to, err)
	}
	if to.CgroupParent != "x" || to.Devices != nil {
		t.Errorf("what an update cannot change has changed: %+v", to)
	}
}

func TestUpdateRefusesWhatIsSetOtherwise(t *testing.T) {
	for _, c := range []struct {
		to, from container.Resources
		want     string
	}{
		{container.Resources{CPUPeriod: 1}, container.Resources{NanoCPUs: 1}, "Nano CPUs cannot be updated as CPU Period has already been set"},
		{container.Resources{CPUQuota: 1}, container.Resources{NanoCPUs: 1}, "Nano CPUs cannot be updated as CPU Quota has already been set"},
		{container.Resources{NanoCPUs: 1}, container.Resources{CPUPeriod: 1}, "CPU Period cannot be updated as NanoCPUs has already been set"},
		{container.Resources{NanoCPUs: 1}, container.Resources{CPUQuota: 1}, "CPU Quota cannot be updated as NanoCPUs has already been set"},
		{container.Resources{Memory: 1, MemorySwap: 2}, container.Resources{Memory: 3}, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"},
	} {
		if err := overlayResources(&c.to, &c.from); !errdefs.Is(err, errdefs.Conflict) || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	for _, ok := range []container.Resources{{MemorySwap: -1}, {}} {
		if err := overlayResources(&ok, &container.Resources{Memory: 9 << 20}); err != nil {
			t.Error(err)
		}
	}
}
