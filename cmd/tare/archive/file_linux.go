package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const errNotDirectory = syscall.ENOTDIR

// inode tells files with several names.
type inode struct{ dev, ino uint64 }

// describe adds what the system knows of a file, and reports whether it has
// several names.
func describe(h *tar.Header, st fs.FileInfo) (id inode, several bool) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return id, false
	}
	h.Uid, h.Gid = int(s.Uid), int(s.Gid)
	if st.Mode()&fs.ModeDevice != 0 {
		h.Devmajor = int64(s.Rdev>>8&0xfff | s.Rdev>>32&^0xfff)
		h.Devminor = int64(s.Rdev&0xff | s.Rdev>>12&^0xff)
	}
	return inode{uint64(s.Dev), s.Ino}, s.Nlink > 1 && !st.IsDir()
}

// openFile opens a file for reading, unless a FIFO or a device has taken its place.
func openFile(at string) (*os.File, error) {
	f, err := os.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, &fs.PathError{Op: "open", Path: at, Err: fs.ErrNotExist})
	}
	return f, nil
}

const attributePrefix = "SCHILY.xattr."

// attribute reports whether an attribute goes with a file.
func attribute(name string) bool {
	return strings.HasPrefix(name, "user.") && !strings.Contains(name, "=") || name == "security.capability" ||
		name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

func fdPath(fd uintptr) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// readAttributes adds those of a file that can be read; most have none.
func readAttributes(f *os.File, h *tar.Header) {
	var list [1024]byte
	n, _, errno := syscall.Syscall(syscall.SYS_FLISTXATTR, f.Fd(), uintptr(unsafe.Pointer(&list[0])), uintptr(len(list)))
	if errno != 0 {
		n = 0
	}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if !attribute(name) {
			continue
		}
		value := make([]byte, 64<<10)
		if k, err := syscall.Getxattr(fdPath(f.Fd()), name, value); err == nil {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords[attributePrefix+name] = string(value[:k])
		}
	}
}

// writeAttributes sets those that the system and the file system take from us.
func writeAttributes(f *os.File, h *tar.Header) {
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, attributePrefix); ok && attribute(name) {
			_ = syscall.Setxattr(fdPath(f.Fd()), name, []byte(value), 0)
		}
	}
}

// makeNode makes a FIFO or a device.
func makeNode(parent *os.Root, base string, h *tar.Header) error {
	d, err := parent.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	mode := uint32(syscall.S_IFIFO)
	switch h.Typeflag {
	case tar.TypeChar:
		mode = syscall.S_IFCHR
	case tar.TypeBlock:
		mode = syscall.S_IFBLK
	}
	major, minor := uint64(h.Devmajor), uint64(h.Devminor)
	dev := minor&0xff | major&0xfff<<8 | minor&^0xff<<12 | major&^0xfff<<32
	return syscall.Mknod(fdPath(d.Fd())+"/"+base, mode|0o600, int(dev))
}

// setTime sets the time of the last change.
func setTime(f *os.File, _ *os.Root, _ string, t time.Time) error {
	const omit = 1<<30 - 2 // UTIME_OMIT
	ts := [2]syscall.Timespec{{Nsec: omit}, syscall.NsecToTimespec(t.UnixNano())}
	_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, f.Fd(), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return &fs.PathError{Op: "utimensat", Path: f.Name(), Err: errno}
	}
	return nil
}
