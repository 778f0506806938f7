package totar

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

const capability = "security.capability"

// xattrs reads the attributes that go into an archive.
func (n *node) xattrs() (map[string][]byte, error) {
	names, err := n.listXattrs()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	attrs := map[string][]byte{}
	for _, name := range names {
		v, err := n.xattr(name)
		if err == unix.ENODATA { // taken away meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		attrs[name] = v
	}
	return attrs, nil
}

func (n *node) listXattrs() ([]string, error) {
	call := func(b []byte) (int, error) { return unix.Flistxattr(n.fd, b) }
	if n.attr != "" {
		call = func(b []byte) (int, error) { return unix.Llistxattr(n.attr, b) }
	}
	b, err := sized(call)
	var names []string
	for name := range strings.SplitSeq(string(b), "\x00") {
		if name != "" && wanted(name) {
			names = append(names, name)
		}
	}
	return names, err
}

func (n *node) xattr(name string) ([]byte, error) {
	return sized(func(b []byte) (int, error) {
		if n.attr != "" {
			return unix.Lgetxattr(n.attr, name, b)
		}
		return unix.Fgetxattr(n.fd, name, b)
	})
}

// sized asks for a size, then for the value, until both agree.
func sized(call func([]byte) (int, error)) ([]byte, error) {
	for {
		size, err := call(nil)
		if err == unix.EOPNOTSUPP || err == nil && size == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		b := make([]byte, size)
		k, err := call(b)
		if err == unix.ERANGE {
			continue
		}
		return b[:max(k, 0)], err
	}
}

// wanted is what package untar takes, but for names that a PAX record cannot
// have.
func wanted(name string) bool {
	for _, p := range []string{"trusted.overlay.", "user.overlay.", "user.fuseoverlayfs."} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	switch name {
	case capability, "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return (strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.")) && !strings.Contains(name, "=")
}

// inAttr turns the ids that are in a value. nil: the value means nothing in the
// archive.
func (o Options) inAttr(name string, value []byte) []byte {
	switch name {
	case capability:
		return o.inCapability(value)
	case "system.posix_acl_access", "system.posix_acl_default":
		MapACL(value, o.UID, o.GID)
	}
	if value == nil {
		return []byte{}
	}
	return value
}

// Layout of struct vfs_ns_cap_data (linux/capability.h): revision and flags,
// two pairs of sets, and with revision 3 the owner of the user namespace.
const (
	revisionMask = 0xff000000
	revision2    = 0x02000000
	revision3    = 0x03000000
	sizeV2       = 20
	sizeV3       = 24
)

// inCapability makes capabilities for a user namespace such for the archive's
// own root. Those of a namespace that has another root are none of the archive's.
func (o Options) inCapability(v []byte) []byte {
	if len(v) != sizeV3 || binary.LittleEndian.Uint32(v)&revisionMask != revision3 {
		return v
	}
	if o.UID(binary.LittleEndian.Uint32(v[sizeV2:])) != 0 {
		return nil
	}
	return CapabilityFor(v, 0)
}

// CapabilityFor returns the value of security.capability for a user namespace
// whose root is uid on the host; 0: for the host's.
func CapabilityFor(v []byte, uid uint32) []byte {
	if len(v) != sizeV2 && len(v) != sizeV3 {
		return v
	}
	flags, out := binary.LittleEndian.Uint32(v)&^revisionMask, append([]byte{}, v[:sizeV2]...)
	if uid == 0 {
		binary.LittleEndian.PutUint32(out, flags|revision2)
		return out
	}
	binary.LittleEndian.PutUint32(out, flags|revision3)
	return binary.LittleEndian.AppendUint32(out, uid)
}

// MapACL turns users and groups of an access control list, in place
// (linux/posix_acl_xattr.h: a version, then entries of tag, permissions, id).
func MapACL(v []byte, uid, gid func(uint32) uint32) {
	const header, entry, user, group = 4, 8, 2, 8
	for at := header; at+entry <= len(v); at += entry {
		id := v[at+4 : at+8]
		switch binary.LittleEndian.Uint16(v[at:]) {
		case user:
			binary.LittleEndian.PutUint32(id, uid(binary.LittleEndian.Uint32(id)))
		case group:
			binary.LittleEndian.PutUint32(id, gid(binary.LittleEndian.Uint32(id)))
		}
	}
}
