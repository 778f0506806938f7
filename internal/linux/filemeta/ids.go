package filemeta

import "encoding/binary"

// Attributes that have ids in them.
const (
	Capability = "security.capability"
	acl        = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// IsACL reports whether an attribute is an access control list.
func IsACL(name string) bool { return name == acl || name == defaultACL }

// Layout of struct vfs_ns_cap_data (linux/capability.h): revision and flags,
// two pairs of sets, and with revision 3 the owner of the user namespace.
const (
	revisionMask = 0xff000000
	revision2    = 0x02000000
	revision3    = 0x03000000
	sizeV2       = 20
	sizeV3       = 24
)

// CapabilityRoot returns the owner of the user namespace that the value of a
// Capability is for; ok is false if it is for the host's.
func CapabilityRoot(v []byte) (uid uint32, ok bool) {
	if len(v) != sizeV3 || binary.LittleEndian.Uint32(v)&revisionMask != revision3 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(v[sizeV2:]), true
}

// CapabilityFor returns the value of a Capability for a user namespace whose
// root is uid on the host; 0: for the host's.
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
