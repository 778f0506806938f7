package mapped

import (
	"fmt"
	"strings"

	"github.com/tare-engine/tare/internal/linux/device"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
	"github.com/tare-engine/tare/internal/linux/keyring"
)

// Status is what is to be known of a volume's devices, as inspect shows it:
//
//	Target      linear, …
//	FileSystem  ext4 or xfs
//	Size        bytes
//	Device      the path of the volume's device, while it has one
//	Health      ok, degraded (without one of its devices), resync, failed
//	Sync        how much of a mirror is the same on all its devices: "63%"
//	Devices     NAME: STATE of each; ok, failed, resync, missing
//	Key         of crypt: the path of its file; "in the kernel", or "absent"
//	Snapshots   NAME: how full it is, while the volume is mounted
func (d *Driver) Status(dir string) (map[string]any, error) {
	st, err := get(dir)
	if err != nil {
		return nil, err
	}
	said := map[string]any{"Target": string(st.Target), "FileSystem": st.FS, "Size": st.Size * sectorSize}
	legs := map[string]string{}
	for _, l := range st.Legs {
		legs[l.name()] = l.state()
	}
	health := "ok"
	if mayHave() {
		c, err := d.open()
		if err != nil {
			return nil, err
		}
		if err := d.tellDevice(c, dir, st, said, legs); err != nil {
			return nil, err
		}
	}
	for _, state := range legs {
		switch {
		case state == stateFailed || state == stateMissing:
			health = "degraded"
		case state == stateResync && health == "ok":
			health = "resync"
		}
	}
	said["Devices"], said["Health"] = legs, health
	if st.Target == crypt {
		said["Key"] = d.tellKey(st)
	}
	return said, nil
}

const (
	stateOK      = "ok"
	stateFailed  = "failed"
	stateResync  = "resync"
	stateMissing = "missing"
)

// state is a leg's as it is known without the kernel.
func (l leg) state() string {
	switch _, err := device.At(l.Device); {
	case l.Failed:
		return stateFailed
	case l.Device != "" && err != nil:
		return stateMissing
	case l.Fresh:
		return stateResync
	}
	return stateOK
}

func (d *Driver) tellKey(st *state) string {
	switch {
	case st.Key != nil && st.Key.File != "":
		return st.Key.File
	case keyring.Has(d.keyName(st)):
		return "in the kernel"
	}
	return "absent"
}

// tellDevice adds what the kernel says.
func (d *Driver) tellDevice(c *dm.Conn, dir string, st *state, said map[string]any, legs map[string]string) error {
	top, err := d.top(dir, st)
	if err != nil {
		return err
	}
	if info, err := c.Info(dm.Name(top), dm.Query{NoOpenCount: true}); notThere(err) || err == nil && !info.Live {
		return nil
	} else if err != nil {
		return err
	}
	said["Device"] = "/dev/mapper/" + top
	if st.Target == multipath {
		return d.tellPaths(c, st, legs)
	}
	h, err := d.health(c, dir, st)
	if err != nil {
		return err
	}
	if h != nil {
		for i := range h.failed {
			legs[st.Legs[i].name()] = stateFailed
		}
		if h.step.Total > 0 {
			said["Sync"] = fmt.Sprintf("%d%%", h.step.Used*100/h.step.Total)
		}
	}
	return d.tellSnapshots(dir, st, said)
}

func (d *Driver) tellPaths(c *dm.Conn, st *state, legs map[string]string) error {
	_, lines, err := c.Status(dm.Name(d.device(st, partPaths)), dm.Query{NoFlush: true, NoOpenCount: true})
	if err != nil {
		return err
	}
	parsed, err := target.ParseStatus(lines[0].Type, lines[0].Params)
	if err != nil {
		return err
	}
	at := map[string]string{}
	for _, l := range st.Legs {
		if n, err := numberOf("", l); err == nil {
			at[n] = l.name()
		}
		legs[l.name()] = stateMissing
	}
	for _, g := range parsed.(*target.MultipathStatus).Groups {
		for _, p := range g.Paths {
			if name := at[p.Device]; name != "" {
				legs[name] = map[string]string{"A": stateOK, "F": stateFailed}[p.State]
			}
		}
	}
	return nil
}

func (d *Driver) tellSnapshots(dir string, st *state, said map[string]any) error {
	names, err := snapshots(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	all := map[string]string{}
	for _, name := range names {
		s, err := d.snapshotStatus(st, name)
		switch {
		case err != nil:
			return err
		case s.Broken != "":
			all[name] = strings.ToLower(s.Broken)
		default:
			all[name] = fmt.Sprintf("%d%%", s.Used.Used*100/max(s.Used.Total, 1))
		}
	}
	said["Snapshots"] = all
	return nil
}
