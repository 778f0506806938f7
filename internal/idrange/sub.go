package idrange

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Host is where the host's users, groups and ranges are written: a directory
// with passwd, group, subuid and subgid, usually /etc.
type Host struct {
	Etc string
	// MakeUser makes the user "dockremap" with its group and its ranges; nil:
	// that is not possible.
	MakeUser func(name string) error
}

// DefaultUser is whose ranges "default" means.
const DefaultUser = "dockremap"

// Remap resolves a value of --userns-remap: default, USER[:GROUP] or
// UID[:GID]. It returns nil for root, who cannot be mapped to himself. The
// texts are dockerd's; as with it the group is checked, and the ranges of
// groups are those of the user's name in subgid.
func (h Host) Remap(value string) (m *Map, user string, err error) {
	user, err = h.remapUser(value)
	if err != nil || user == "root" {
		return nil, user, err
	}
	m, err = h.Of(user)
	if err != nil {
		return nil, user, dockerd("Can't create ID mappings: %w", err)
	}
	return m, user, nil
}

func (h Host) remapUser(value string) (string, error) {
	name, group, hasGroup := strings.Cut(value, ":")
	if strings.Contains(group, ":") {
		return "", dockerd("Invalid user/group specification in --userns-remap: %q", value)
	}
	user, err := h.user(name)
	if err != nil {
		return "", err
	}
	if !hasGroup {
		group = name
		if name == "default" {
			group = DefaultUser
		}
	}
	return user, h.checkGroup(group, hasGroup)
}

func (h Host) user(name string) (string, error) {
	if uid, err := strconv.ParseInt(name, 10, 32); err == nil {
		e, err := h.entry("passwd", "", uid)
		if err != nil {
			return "", dockerd("Uid %d has no entry in /etc/passwd: %w", uid, err)
		}
		return e.name, nil
	}
	if name != "default" {
		e, err := h.entry("passwd", name, -1)
		if err != nil {
			return "", dockerd("Error during uid lookup for %q: %w", name, err)
		}
		return e.name, nil
	}
	_, err := h.entry("passwd", DefaultUser, -1)
	if err == nil {
		return DefaultUser, nil
	}
	if h.MakeUser != nil {
		err = h.MakeUser(DefaultUser)
	}
	if err != nil {
		return "", dockerd("Error during %q user creation: %w", DefaultUser, err)
	}
	return DefaultUser, nil
}

func (h Host) checkGroup(group string, named bool) error {
	if gid, err := strconv.ParseInt(group, 10, 32); err == nil {
		if _, err := h.entry("group", "", gid); err != nil {
			return dockerd("Gid %d has no entry in /etc/group: %w", gid, err)
		}
		return nil
	}
	what := "gid"
	if named {
		what = "groupname"
	}
	if _, err := h.entry("group", group, -1); err != nil {
		return dockerd("Error during %s lookup for %q: %w", what, group, err)
	}
	return nil
}

// dockerd makes an error with a text of dockerd's.
func dockerd(format string, args ...any) error { return fmt.Errorf(format, args...) }

type entry struct {
	name string
	id   int64
}

// entry finds a line of passwd or group, by name or, with an empty name, by
// number.
func (h Host) entry(file, name string, id int64) (found entry, err error) {
	err = h.lines(file, func(f []string) bool {
		if len(f) < 3 {
			return false
		}
		n, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil || name != "" && f[0] != name || name == "" && n != id {
			return false
		}
		found = entry{f[0], n}
		return true
	})
	if err == nil && found.name == "" {
		err = fmt.Errorf("no matching entries in %s file", file)
	}
	return found, err
}

// lines gives f the fields of each line of a file until f returns true.
func (h Host) lines(file string, f func(fields []string) bool) error {
	in, err := os.Open(filepath.Join(h.Etc, file))
	if err != nil {
		return err
	}
	defer in.Close()
	s := bufio.NewScanner(in)
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "#")
		if line = strings.TrimSpace(line); line != "" && f(strings.Split(line, ":")) {
			return nil
		}
	}
	return s.Err()
}

// Of returns the map of all ranges that a user has, one after the other.
func (h Host) Of(user string) (*Map, error) {
	e, err := h.entry("passwd", user, -1)
	if err != nil {
		return nil, fmt.Errorf("could not get user for username %s: %w", user, err)
	}
	m := &Map{}
	for _, f := range []struct {
		file string
		to   *[]specs.LinuxIDMapping
	}{{"subuid", &m.UIDs}, {"subgid", &m.GIDs}} {
		ranges, err := h.ranges(f.file, e)
		if err != nil {
			return nil, err
		}
		if len(ranges) == 0 {
			return nil, fmt.Errorf("no %s ranges found for user %q in %s", f.file, user, filepath.Join(h.Etc, f.file))
		}
		*f.to = inRow(ranges)
	}
	return m, nil
}

// span are ids of the host.
type span struct{ start, size uint64 }

// ranges reads those that a file gives to a user, by name or number.
func (h Host) ranges(file string, user entry) (list []span, err error) {
	var bad error
	err = h.lines(file, func(f []string) bool {
		if len(f) != 3 || f[0] != user.name && f[0] != strconv.FormatInt(user.id, 10) {
			return false
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		size, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || size == 0 || start == 0 || start+size > 1<<32-1 {
			bad = fmt.Errorf("%s: %q is no range of ids for user %q", filepath.Join(h.Etc, file), strings.Join(f, ":"), user.name)
			return true
		}
		list = append(list, span{start, size})
		return false
	})
	return list, errors.Join(err, bad)
}

// inRow maps ids from 0 on to the ranges.
func inRow(list []span) (m []specs.LinuxIDMapping) {
	next := uint64(0)
	for _, s := range list {
		m = append(m, specs.LinuxIDMapping{ContainerID: uint32(next), HostID: uint32(s.start), Size: uint32(s.size)})
		next += s.size
	}
	return m
}

// firstSub is where subordinate ids begin (SUB_UID_MIN of login.defs).
const firstSub = 100000

// Free returns the first id behind all ranges of subuid and subgid.
func (h Host) Free() (uint32, error) {
	end := uint64(firstSub)
	for _, file := range []string{"subuid", "subgid"} {
		err := h.lines(file, func(f []string) bool {
			if len(f) == 3 {
				start, err1 := strconv.ParseUint(f[1], 10, 32)
				size, err2 := strconv.ParseUint(f[2], 10, 32)
				if err1 == nil && err2 == nil {
					end = max(end, start+size)
				}
			}
			return false
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
	}
	if end > poolStart-DefaultSize {
		return 0, errors.New("no room for another range in /etc/subuid and /etc/subgid")
	}
	return uint32(end), nil
}
