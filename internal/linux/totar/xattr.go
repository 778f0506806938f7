package totar

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tare-engine/tare/internal/linux/filemeta"
)

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
	if name == filemeta.Capability || filemeta.IsACL(name) {
		return true
	}
	return (strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.")) && !strings.Contains(name, "=")
}

// inAttr turns the ids that are in a value. nil: the value means nothing in the
// archive.
func (o Options) inAttr(name string, value []byte) []byte {
	switch {
	case name == filemeta.Capability:
		return o.inCapability(value)
	case filemeta.IsACL(name):
		filemeta.MapACL(value, o.UID, o.GID)
	}
	if value == nil {
		return []byte{}
	}
	return value
}

// inCapability makes capabilities for a user namespace such for the archive's
// own root. Those of a namespace that has another root are none of the archive's.
func (o Options) inCapability(v []byte) []byte {
	root, ok := filemeta.CapabilityRoot(v)
	if !ok {
		return v
	}
	if o.UID(root) != 0 {
		return nil
	}
	return filemeta.CapabilityFor(v, 0)
}
