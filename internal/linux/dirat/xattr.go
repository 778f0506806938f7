package dirat

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Getxattr reads an extended attribute of a place into p; with an empty p it
// returns the size.
func (d FD) Getxattr(name string, p []byte) (int, error) { return unix.Getxattr(d.proc(), name, p) }

// Listxattr reads the names of the extended attributes of a place, each ended
// by a zero byte; with an empty p it returns the size.
func (d FD) Listxattr(p []byte) (int, error) { return unix.Listxattr(d.proc(), p) }

// Setxattr sets an extended attribute of a place, with the flags of setxattr.
func (d FD) Setxattr(name string, p []byte, flags int) error {
	return unix.Setxattr(d.proc(), name, p, flags)
}

// Removexattr removes an extended attribute of a place.
func (d FD) Removexattr(name string) error { return unix.Removexattr(d.proc(), name) }

// copyXattrs gives place d all extended attributes of from, access control
// lists among them. What d's file system cannot hold is an error, unless it
// holds none at all and from has none.
func (d FD) copyXattrs(from FD) error {
	names, err := sized(from.Listxattr)
	if err == unix.EOPNOTSUPP {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" {
			continue
		}
		v, err := sized(func(p []byte) (int, error) { return from.Getxattr(name, p) })
		if err == unix.ENODATA { // removed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		if err := d.Setxattr(name, v, 0); err != nil {
			return err
		}
	}
	return nil
}

// sized calls get until its buffer is large enough.
func sized(get func([]byte) (int, error)) ([]byte, error) {
	b := make([]byte, 512)
	for {
		n, err := get(b)
		if err == nil {
			return b[:n], nil
		}
		if err != unix.ERANGE {
			return nil, err
		}
		if n, err = get(nil); err != nil {
			return nil, err
		}
		b = make([]byte, n+256)
	}
}
