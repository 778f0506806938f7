package untar

import (
	"strings"

	"github.com/tare-engine/tare/internal/linux/filemeta"
)

// attribute returns what an attribute of an entry becomes for the owner of the
// tree; nil: nothing.
func (l *Live) attribute(name string, value []byte) ([]byte, error) {
	switch {
	case strings.HasPrefix(name, trustedPrefix):
		return nil, nil
	case name == filemeta.Capability:
		return filemeta.CapabilityFor(value, uint32(l.RootUID)), nil
	case filemeta.IsACL(name):
		return l.acl(value)
	}
	return value, nil
}

// acl turns the ids in an access control list.
func (l *Live) acl(value []byte) ([]byte, error) {
	var failed error
	own := func(id uint32, group bool) uint32 {
		uid, gid, err := l.Own(int(id), int(id))
		if err != nil {
			failed = err
			return id
		}
		if group {
			return uint32(gid)
		}
		return uint32(uid)
	}
	filemeta.MapACL(value, func(id uint32) uint32 { return own(id, false) }, func(id uint32) uint32 { return own(id, true) })
	return value, failed
}
