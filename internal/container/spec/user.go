package spec

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/inroot"
)

// maxUserFile bounds what is read of a container's passwd and group: both
// belong to the image. Directories with 100,000 users stay below it.
const maxUserFile = 8 << 20

// maxID is the largest user or group number. Beyond it conversions to signed
// numbers wrap, on some systems to root.
const maxID = 1<<31 - 1

// resolvedUser is whom a process runs as.
type resolvedUser struct {
	specs.User
	Home string
}

// lookupUser resolves "name", "uid", "name:group", "uid:gid" ... in the root's
// own files, and the groups to add. The rules are Docker's:
//
//   - what is a number is never looked up as a name: an entry "1000:x:0:0" of
//     an image must not make user 1000 root;
//   - a number without an entry is taken as it is, with group 0;
//   - without a group the user's own one counts, and those that list it;
//   - a file that is missing is empty.
func lookupUser(root *os.File, user string, groupAdd []string) (resolvedUser, error) {
	name, group, hasGroup := strings.Cut(user, ":")
	passwd, err := readUserFile(root, "/etc/passwd")
	if err != nil {
		return resolvedUser{}, err
	}
	var groups []byte
	if hasGroup && group != "" || len(groupAdd) > 0 || len(passwd) > 0 {
		if groups, err = readUserFile(root, "/etc/group"); err != nil {
			return resolvedUser{}, err
		}
	}
	u, entry, err := findUser(passwd, name)
	if err != nil {
		return resolvedUser{}, err
	}
	gids := []uint32{}
	if group != "" {
		if u.GID, err = findGroup(groups, group); err != nil {
			return resolvedUser{}, err
		}
	} else if entry != "" {
		gids = groupsListing(groups, entry)
	}
	for _, g := range groupAdd {
		gid, err := findGroup(groups, g)
		if err != nil {
			return resolvedUser{}, err
		}
		gids = append(gids, gid)
	}
	// The primary group is listed as well: else a file's rules for that group
	// would not apply to the process once it has changed its group.
	u.AdditionalGids = uniqueIDs(append([]uint32{u.GID}, gids...))
	return u, nil
}

func uniqueIDs(list []uint32) []uint32 {
	out := list[:0]
	for _, id := range list {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// readUserFile reads one of the two files; links stay inside the root, and
// what is no regular file is refused unopened.
func readUserFile(root *os.File, path string) ([]byte, error) {
	b, err := inroot.ReadFile(root, path, maxUserFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "read %s of the container: %w", path, err)
	}
	return b, nil
}

// entries calls f with the fields of each line until it returns false.
func entries(file []byte, f func(fields []string) bool) {
	for len(file) > 0 {
		var line []byte
		line, file, _ = bytes.Cut(file, []byte("\n"))
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if !f(strings.SplitN(string(line), ":", 8)) {
			return
		}
	}
}

// findUser returns the user, and the name of its entry if it has one.
func findUser(passwd []byte, user string) (u resolvedUser, entry string, err error) {
	u.Home = "/"
	id, numeric, err := parseID(user)
	if err != nil {
		return u, "", err
	}
	if user == "" {
		numeric = true // user 0
	}
	u.UID = id
	found := false
	entries(passwd, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		uid, ok, err := parseID(f[2])
		if !ok || err != nil || numeric && uid != id || !numeric && f[0] != user {
			return true
		}
		gid, ok, err := parseID(f[3])
		if !ok || err != nil {
			return true
		}
		found, entry, u.UID, u.GID = true, f[0], uid, gid
		if len(f) > 5 && strings.HasPrefix(f[5], "/") {
			u.Home = f[5]
		}
		return false
	})
	if !found && !numeric {
		return u, "", errdefs.New(errdefs.InvalidArgument, "unable to find user %s: no matching entries in passwd file", user)
	}
	return u, entry, nil
}

func findGroup(file []byte, group string) (uint32, error) {
	gid, numeric, err := parseID(group)
	if err != nil || numeric {
		return gid, err
	}
	found := false
	entries(file, func(f []string) bool {
		if len(f) < 3 || f[0] != group {
			return true
		}
		id, ok, err := parseID(f[2])
		if !ok || err != nil {
			return true
		}
		gid, found = id, true
		return false
	})
	if !found {
		return 0, errdefs.New(errdefs.InvalidArgument, "unable to find group %s: no matching entries in group file", group)
	}
	return gid, nil
}

// groupsListing returns the groups that have the user as a member.
func groupsListing(file []byte, user string) []uint32 {
	gids := []uint32{}
	entries(file, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		gid, ok, err := parseID(f[2])
		if ok && err == nil && contains(strings.Split(f[3], ","), user) {
			gids = append(gids, gid)
		}
		return true
	})
	return gids
}

// parseID reads a number. What looks like one but is out of range is an error,
// never a name.
func parseID(s string) (id uint32, numeric bool, err error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false, nil
	}
	if err != nil || n < 0 || n > maxID {
		return 0, true, errdefs.New(errdefs.InvalidArgument, "uids and gids must be in range 0-%d", maxID)
	}
	return uint32(n), true, nil
}
