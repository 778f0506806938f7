// Package dirat works on names in open directories, and on what they name, by
// descriptor alone.
//
// A name is one component: nothing here follows a symbolic link, leaves the
// directory or crosses into another mount (openat2 with RESOLVE_BENEATH,
// RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS and RESOLVE_NO_XDEV). What is
// changed is first opened as a place (O_PATH) and then changed through that
// descriptor, so that whoever swaps the name meanwhile gains nothing.
//
// Extended attributes, modes and times of a place go through /proc/self/fd,
// which the process must have.
package dirat

import (
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FD is a descriptor, owned by whoever opened it. The methods say whether they
// want a directory, an open file or any place.
type FD int

// None is no descriptor.
const None FD = -1

// Stat is the kernel's description of a file.
type Stat = unix.Stat_t

// Statfs is the kernel's description of a file system.
type Statfs = unix.Statfs_t

// Flags of opening, renaming and setting times that package syscall lacks.
const (
	Path        = unix.O_PATH
	Tmpfile     = unix.O_TMPFILE
	NoReplace   = unix.RENAME_NOREPLACE
	Exchange    = unix.RENAME_EXCHANGE
	Now         = unix.UTIME_NOW  // in Nsec: the time it is
	Omit        = unix.UTIME_OMIT // in Nsec: the time it has
	resolve     = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV
	maxAttempts = 128
)

// Open opens the directory at a path that the administrator gave, following
// symbolic links.
func Open(path string) (FD, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return FD(fd), err
}

// Close gives the descriptor back.
func (d FD) Close() {
	if d >= 0 {
		unix.Close(int(d))
	}
}

// Dup returns a second descriptor of the same.
func (d FD) Dup() (FD, error) {
	fd, err := unix.FcntlInt(uintptr(d), unix.F_DUPFD_CLOEXEC, 0)
	return FD(fd), err
}

// OpenAt opens name in directory d; flags and mode are those of openat2. It
// never follows a symbolic link.
func (d FD) OpenAt(name string, flags int, mode uint32) (FD, error) {
	how := unix.OpenHow{Flags: uint64(flags)&^unix.O_LARGEFILE | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: resolve}
	if flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
		how.Mode = uint64(mode & 07777)
	}
	for range maxAttempts {
		fd, err := unix.Openat2(int(d), name, &how)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		return FD(fd), err
	}
	return None, unix.EAGAIN
}

// Dir opens the directory that name is in d, as a place.
func (d FD) Dir(name string) (FD, error) {
	return d.OpenAt(name, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// Place opens what name is in d, whatever it is, as a place.
func (d FD) Place(name string) (FD, error) { return d.OpenAt(name, unix.O_PATH, 0) }

// StatAt describes name in d.
func (d FD) StatAt(name string, st *Stat) error {
	return unix.Fstatat(int(d), name, st, unix.AT_SYMLINK_NOFOLLOW)
}

// Has tells whether d has name.
func (d FD) Has(name string) (bool, error) {
	err := unix.Faccessat(int(d), name, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil, err
}

// Stat describes what d is open on.
func (d FD) Stat(st *Stat) error { return unix.Fstat(int(d), st) }

// Statfs describes the file system of d.
func (d FD) Statfs(st *Statfs) error {
	for {
		if err := unix.Fstatfs(int(d), st); err != unix.EINTR {
			return err
		}
	}
}

// Mkdir makes a directory.
func (d FD) Mkdir(name string, mode uint32) error { return unix.Mkdirat(int(d), name, mode) }

// Mknod makes a file of the type in mode.
func (d FD) Mknod(name string, mode, dev uint32) error {
	return unix.Mknodat(int(d), name, mode, int(dev))
}

// Symlink makes a symbolic link to target.
func (d FD) Symlink(name, target string) error { return unix.Symlinkat(target, int(d), name) }

// Link gives name in d a second name in another directory.
func (d FD) Link(name string, to FD, other string) error {
	return unix.Linkat(int(d), name, int(to), other, 0)
}

// LinkTo gives what d is open on a name in a directory.
func (d FD) LinkTo(to FD, name string) error {
	return unix.Linkat(unix.AT_FDCWD, d.proc(), int(to), name, unix.AT_SYMLINK_FOLLOW)
}

// Rename moves name to another directory, with the flags of renameat2.
func (d FD) Rename(name string, to FD, other string, flags uint) error {
	return unix.Renameat2(int(d), name, int(to), other, flags)
}

// Unlink removes what is not a directory.
func (d FD) Unlink(name string) error { return unix.Unlinkat(int(d), name, 0) }

// Rmdir removes an empty directory.
func (d FD) Rmdir(name string) error { return unix.Unlinkat(int(d), name, unix.AT_REMOVEDIR) }

// Readlink returns the target of the symbolic link that is open as a place.
func (d FD) Readlink() (string, error) {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(int(d), "", b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// RealPath is the path by which the kernel knows what d is open on.
func (d FD) RealPath() (string, error) {
	var b [unix.PathMax]byte
	n, err := unix.Readlink(d.proc(), b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// proc is a path that leads to what d is open on, be it a symbolic link.
func (d FD) proc() string { return "/proc/self/fd/" + strconv.Itoa(int(d)) }

// Reopen opens the place once more, as a file.
func (d FD) Reopen(flags int) (FD, error) {
	for {
		fd, err := unix.Open(d.proc(), flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return FD(fd), err
		}
	}
}

// Chown changes the owners of a place; -1 leaves one as it is.
func (d FD) Chown(uid, gid int) error {
	return unix.Fchownat(int(d), "", uid, gid, unix.AT_EMPTY_PATH)
}

// Chmod changes the mode of a place.
func (d FD) Chmod(mode uint32) error {
	return unix.Fchmodat(unix.AT_FDCWD, d.proc(), mode&07777, 0)
}

// SetTimes sets times of access and modification of a place. Now and Omit
// stand in Nsec.
func (d FD) SetTimes(access, modification unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, d.proc(), []unix.Timespec{access, modification}, 0)
}

// Times returns what SetTimes would have to set again.
func Times(st *Stat) (access, modification unix.Timespec) { return st.Atim, st.Mtim }

// Time makes a time for SetTimes.
func Time(sec int64, nsec int64) unix.Timespec { return unix.Timespec{Sec: sec, Nsec: nsec} }

// Truncate sets the size of an open file.
func (d FD) Truncate(size int64) error {
	for {
		if err := unix.Ftruncate(int(d), size); err != unix.EINTR {
			return err
		}
	}
}

// Sync writes an open file to disk.
func (d FD) Sync() error { return unix.Fsync(int(d)) }

// Datasync writes an open file's data to disk, and what is needed to read it.
func (d FD) Datasync() error { return unix.Fdatasync(int(d)) }

// Pread reads from an open file at a place.
func (d FD) Pread(p []byte, at int64) (int, error) {
	for {
		if n, err := unix.Pread(int(d), p, at); err != unix.EINTR {
			return n, err
		}
	}
}

// Pwrite writes to an open file at a place.
func (d FD) Pwrite(p []byte, at int64) (int, error) {
	for {
		if n, err := unix.Pwrite(int(d), p, at); err != unix.EINTR {
			return n, err
		}
	}
}

// Append writes at the end of a file that was opened with O_APPEND.
func (d FD) Append(p []byte) (int, error) {
	for {
		if n, err := unix.Write(int(d), p); err != unix.EINTR {
			return n, err
		}
	}
}

// Allocate is fallocate.
func (d FD) Allocate(mode uint32, off, n int64) error {
	return unix.Fallocate(int(d), mode, off, n)
}

// Seek is lseek; whence may ask for data or a hole.
func (d FD) Seek(off int64, whence int) (int64, error) { return unix.Seek(int(d), off, whence) }

// CopyRange is copy_file_range.
func (d FD) CopyRange(off int64, to FD, at int64, n int) (int, error) {
	return unix.CopyFileRange(int(d), &off, int(to), &at, n, 0)
}

// Names calls f with each name of directory d but "." and "..", with its inode
// number and its type (syscall.DT_DIR and so on; DT_UNKNOWN where the file
// system does not say).
func (d FD) Names(f func(name string, ino uint64, typ uint8)) error {
	dir, err := d.OpenAt(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(int(dir), buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		entries(buf[:n], f)
	}
}

// entries splits what getdents64 returns.
func entries(b []byte, f func(name string, ino uint64, typ uint8)) {
	for len(b) > 0 {
		e := (*unix.Dirent)(unsafe.Pointer(&b[0]))
		name := b[unsafe.Offsetof(e.Name):e.Reclen]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		if s := string(name); s != "." && s != ".." {
			f(s, e.Ino, e.Type)
		}
		b = b[e.Reclen:]
	}
}

// Kind is the type of a file in its mode.
func Kind(mode uint32) uint32 { return mode & syscall.S_IFMT }

// Inherit makes the programs that this one executes have the descriptor too.
func (d FD) Inherit() { _, _ = unix.FcntlInt(uintptr(d), unix.F_SETFD, 0) }

// Inherited tells whether they have.
func (d FD) Inherited() bool {
	flags, err := unix.FcntlInt(uintptr(d), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}
