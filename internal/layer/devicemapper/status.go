package devicemapper

import (
	"fmt"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// Status has the lines of Docker's driver.
func (d *Driver) Status() [][2]string {
	p := d.pool
	lines := [][2]string{
		{"Pool Name", p.name},
		{"Pool Blocksize", human(p.set.BlockSize)},
		{"Base Device Size", human(d.base.Size)},
		{"Backing Filesystem", p.set.FS},
		{"Udev Sync Supported", fmt.Sprint(dm.UdevRuns())},
	}
	if p.devices[0] != "" {
		lines = append(lines, [2]string{"Data file", p.devices[0]}, [2]string{"Metadata file", p.devices[1]})
	}
	if p.dataFiles[0] != "" {
		lines = append(lines, [2]string{"Data loop file", p.dataFiles[0]}, [2]string{"Metadata loop file", p.dataFiles[1]})
	}
	s, err := p.status()
	if err != nil {
		return append(lines, [2]string{"Pool Error", err.Error()})
	}
	data, metadata := p.spaces(s)
	return append(lines, [][2]string{
		{"Data Space Used", human(data.used)},
		{"Data Space Total", human(data.total)},
		{"Data Space Available", human(p.available(data))},
		{"Metadata Space Used", human(metadata.used)},
		{"Metadata Space Total", human(metadata.total)},
		{"Metadata Space Available", human(p.available(metadata))},
		{"Thin Pool Minimum Free Space", human(data.total / 100 * int64(p.free))},
		{"Deferred Removal Enabled", "true"},
		{"Deferred Deletion Enabled", "true"},
		{"Deferred Deleted Device Count", fmt.Sprint(len(d.doomed()))},
		{"Driver Version", d.conn.Driver().String()},
	}...)
}

// Warnings has that of Docker's client about loop files.
func (d *Driver) Warnings() []string {
	if !d.opts.loops() {
		return nil
	}
	return []string{"WARNING: devicemapper: usage of loopback devices is strongly discouraged for production use. Use " +
		"`--storage-opt dm.thinpooldev` to specify a custom block storage device."}
}
