package dirat

import (
	"golang.org/x/sys/unix"
)

// CopyMeta gives place d what belongs to a file beside its data: owners, mode,
// extended attributes, times, as place from has them. The kind of both is the
// same.
func (d FD) CopyMeta(from FD, st *Stat) error {
	if err := d.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := d.copyXattrs(from); err != nil {
		return err
	}
	if Kind(st.Mode) != unix.S_IFLNK {
		// After the owners, whose change drops set-user-id, and after the access
		// control list, which says the same about the group.
		if err := d.Chmod(st.Mode); err != nil {
			return err
		}
	}
	return d.SetTimes(Times(st))
}

// CopyData copies size bytes of the open file from to the empty file d: shared
// where the file system can, else piece by piece without its holes.
func (d FD) CopyData(from FD, size int64) error {
	if size == 0 || unix.IoctlFileClone(int(d), int(from)) == nil {
		return nil
	}
	if err := d.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := from.Seek(at, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			return nil
		}
		if err != nil { // no holes known here
			return d.copyPiece(from, at, size)
		}
		hole, err := from.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := d.copyPiece(from, data, min(hole, size)); err != nil {
			return err
		}
		at = hole
	}
	return nil
}

// copyPiece copies the bytes from at to end; a file that is shorter meanwhile
// ends the copy.
func (d FD) copyPiece(from FD, at, end int64) error {
	for at < end {
		n, err := from.CopyRange(at, d, at, int(min(end-at, 1<<30)))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break // another file system, or one that cannot
		}
		at += int64(n)
	}
	if at == end {
		return nil
	}
	buf := make([]byte, 256<<10)
	for at < end {
		n, err := from.Pread(buf[:min(end-at, int64(len(buf)))], at)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for p := buf[:n]; len(p) > 0; {
			w, err := d.Pwrite(p, at)
			if err != nil {
				return err
			}
			p, at = p[w:], at+int64(w)
		}
	}
	return nil
}
