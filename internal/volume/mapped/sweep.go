package mapped

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/dm"
)

// Sweep removes the devices of volumes that are in none of the directories, as a killed
// engine leaves them, and looks after those that are in use: what it was about to change
// of them is changed.
func (d *Driver) Sweep(dirs []string) error {
	if !mayHave() {
		return nil
	}
	known := map[string]string{}
	for _, dir := range dirs {
		st, err := get(dir)
		if errdefs.Is(err, errdefs.NotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err) // its devices are not known to be garbage
		}
		known[st.ID] = dir
	}
	c, err := d.open()
	if err != nil {
		return err
	}
	all, err := c.List()
	if err != nil {
		return err
	}
	prefix := "tare-" + d.cfg.Engine + "-"
	var garbage, used []string
	for _, l := range all {
		rest, ours := strings.CutPrefix(l.Name, prefix)
		id, _, _ := strings.Cut(rest, "-")
		switch {
		case !ours || !idRegexp.MatchString(id):
		case known[id] == "":
			garbage = append(garbage, l.Name)
		case !slices.Contains(used, id):
			used = append(used, id)
		}
	}
	if len(garbage) > 0 {
		slog.Info("remove devices of volumes that are not there", "devices", garbage)
		err = remove(c, garbage, true)
	}
	for _, id := range used {
		err = errors.Join(err, d.resume(c, id, known[id]))
	}
	for id, dir := range known {
		err = errors.Join(err, d.tidy(id, dir))
	}
	return err
}

// tidy gives devices back that a killed engine had replaced.
func (d *Driver) tidy(id, dir string) error {
	defer d.hold(id)()
	st, err := get(dir)
	if err != nil || len(st.Old) == 0 {
		return err
	}
	return d.discardOld(dir, st)
}

// resume goes on with a volume that has devices, since before this engine.
func (d *Driver) resume(c *dm.Conn, id, dir string) error {
	release := d.hold(id)
	st, err := get(dir)
	if err == nil {
		err = d.asWritten(c, dir, st)
	}
	release()
	if err != nil {
		return err
	}
	return d.see(c, dir, st)
}

// asWritten reloads the table of a volume that is in use, if an engine was killed between
// what it has written down and the kernel. A volume without legs to be replaced has none
// that differs.
//
// Preconditions: the volume's lock is held.
func (d *Driver) asWritten(c *dm.Conn, dir string, st *state) error {
	info, err := c.Info(dm.Name(d.device(st, "")), dm.Query{})
	if notThere(err) || err == nil && (!info.Live || info.OpenCount == 0) {
		return nil // the end of its last user is told, and takes it
	}
	if err != nil || !st.Target.redundant() {
		return err
	}
	same, err := d.same(c, dir, st)
	if err != nil || same {
		return err
	}
	return d.reload(c, dir, st)
}

// same reports whether a volume's table is made of the legs that its state says.
func (d *Driver) same(c *dm.Conn, dir string, st *state) (bool, error) {
	part := ""
	if st.Target == multipath {
		part = partPaths
	}
	_, have, err := c.Deps(dm.Name(d.device(st, part)), dm.Query{})
	if err != nil {
		return false, err
	}
	var want []string
	for _, l := range st.Legs {
		switch {
		case l.Failed:
		case st.Target == raid1:
			for _, part := range []string{partMetadata + l.ID, partData + l.ID} {
				info, err := c.Info(dm.Name(d.device(st, part)), dm.Query{NoOpenCount: true})
				if err != nil && !notThere(err) {
					return false, err
				}
				want = append(want, info.Dev.String())
			}
		default:
			n, err := numberOf(dir, l)
			if err != nil { // it is gone: see goWithout
				return true, nil
			}
			want = append(want, n)
		}
	}
	for _, dev := range have {
		i := slices.Index(want, dev.String())
		if i < 0 {
			return false, nil
		}
		want = slices.Delete(want, i, i+1)
	}
	return len(want) == 0, nil
}
