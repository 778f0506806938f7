package archive

import (
	"strings"

	"github.com/tare-engine/tare/internal/linux/totar"
)

// attribute returns what an attribute of an entry becomes for the container; nil:
// nothing. Attributes trusted.* are the host's business.
func (o UnpackOptions) attribute(name string, value []byte) ([]byte, error) {
	switch {
	case strings.HasPrefix(name, "trusted."):
		return nil, nil
	case name == "security.capability":
		return totar.CapabilityFor(value, uint32(o.RootUID)), nil
	case strings.HasPrefix(name, "system.posix_acl_"):
		return o.acl(value)
	}
	return value, nil
}

// acl turns the ids in an access control list.
func (o UnpackOptions) acl(value []byte) ([]byte, error) {
	var failed error
	own := func(id uint32, group bool) uint32 {
		uid, gid, err := o.Own(int(id), int(id))
		switch {
		case err != nil:
			failed = err
			return id
		case group:
			return uint32(gid)
		}
		return uint32(uid)
	}
	totar.MapACL(value, func(id uint32) uint32 { return own(id, false) }, func(id uint32) uint32 { return own(id, true) })
	return value, failed
}
