package runtime

import (
	"os"
	"slices"
	"strings"

	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/overlay"
)

// openOverlay makes a mount of overlayfs, which is detached. Its directories are the
// host's, as a bind's source is: no step of a plan could reach them.
func openOverlay(destination string, o mountOptions) (*os.File, error) {
	var w overlay.Options
	for _, opt := range o.data {
		switch k, v, _ := strings.Cut(opt, "="); k {
		case "lowerdir":
			w.Lower = splitDirs(v)
		case "upperdir":
			w.Upper = v
		case "workdir":
			w.Work = v
		default:
			w.Settings = append(w.Settings, opt)
		}
	}
	if len(w.Lower) == 0 || slices.Contains(w.Lower, "") || (w.Upper == "") != (w.Work == "") {
		return nil, invalid("mounts: %s: an overlay needs lowerdir, and upperdir and workdir if it is to be written to", destination)
	}
	f, err := overlay.Mount(w)
	if err != nil {
		return nil, err
	}
	changes := o.changes()
	if len(o.propagation) == 0 {
		changes = append(changes, propagations["rprivate"])
	}
	for _, c := range changes {
		if err := mount.SetAttr(f, c); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// splitDirs reads the value of lowerdir: directories between colons, in which a
// backslash goes before a colon and before itself.
func splitDirs(s string) []string {
	dirs := []string{""}
	last := &dirs[0]
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			*last += s[i : i+1]
		case c == ':':
			dirs = append(dirs, "")
			last = &dirs[len(dirs)-1]
		default:
			*last += s[i : i+1]
		}
	}
	return dirs
}
