package spec

import (
	"os"
	"slices"

	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Held returns the mounts of a container that hold files while it does not run:
// the engine's own below /etc and what the user has bound, parents first. Nothing
// is made for them; what has no source yet is left out.
func Held(in Input) ([]specs.Mount, error) {
	b, err := newSpecBuilder(in)
	if err != nil {
		return nil, err
	}
	users := map[string]bool{}
	for _, m := range b.mounts {
		users[m.target] = true
	}
	var list []specs.Mount
	for _, m := range b.files() {
		if !users[m.Destination] {
			list = append(list, m)
		}
	}
	for _, m := range b.byDepth() {
		if m.typ == mount.TypeTmpfs {
			continue
		}
		if _, err := os.Stat(m.source); err != nil {
			continue
		}
		bind, err := b.ownedBind(m)
		if err != nil {
			return nil, err
		}
		list = append(list, bind)
	}
	return slices.DeleteFunc(list, func(m specs.Mount) bool {
		_, err := os.Stat(m.Source)
		return err != nil
	}), nil
}

// UserIDs looks a user up in a container's files. "" is root.
func UserIDs(root *os.File, user string) (uid, gid uint32, err error) {
	u, err := lookupUser(root, user, nil)
	return u.UID, u.GID, err
}
