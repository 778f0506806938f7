// Package loop makes block devices of files.
package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// attempts bounds how often another program may take the device that was free.
const attempts = 100

// Attach returns a device, open for reading and writing, that has the file's content: the one that
// there is already, as two would not know of each other's writes, or a new one. A new one is let go
// of by itself when the last descriptor of it is closed and nothing of it is mounted.
func Attach(file *os.File) (*os.File, error) {
	dev, err := find(file)
	if dev != nil || err != nil {
		return dev, err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range attempts {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		dev, err := attachTo(n, file)
		if errors.Is(err, unix.EBUSY) { // another program was faster
			continue
		}
		return dev, err
	}
	return nil, errors.New("no loop device stays free")
}

// Attached reports whether a device has the file.
func Attached(file *os.File) (bool, error) {
	dev, err := find(file)
	if dev != nil {
		dev.Close()
	}
	return dev != nil, err
}

// find returns the device that has a file already, or nil.
func find(file *os.File) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, err
	}
	bound, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	for _, b := range bound {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(b)), "loop"))
		if err != nil {
			continue
		}
		dev, err := openNode(n)
		if err != nil {
			return nil, err
		}
		// Open it stays what it is.
		info, err := unix.IoctlLoopGetStatus64(int(dev.Fd()))
		if err == nil && info.Device == st.Dev && info.Inode == st.Ino {
			return dev, nil
		}
		dev.Close()
	}
	return nil, nil
}

// Refresh has a device see that its file has become larger.
func Refresh(dev *os.File) error {
	err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0)
	runtime.KeepAlive(dev)
	if err != nil {
		return &os.PathError{Op: "set capacity", Path: dev.Name(), Err: err}
	}
	return nil
}

func attachTo(n int, file *os.File) (*os.File, error) {
	dev, err := openNode(n)
	if err != nil {
		return nil, err
	}
	c := unix.LoopConfig{Fd: uint32(file.Fd())}
	c.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	copy(c.Info.File_name[:len(c.Info.File_name)-1], file.Name())
	err = unix.IoctlLoopConfigure(int(dev.Fd()), &c)
	runtime.KeepAlive(file)
	if err != nil {
		dev.Close()
		return nil, fmt.Errorf("loop device of %s: %w", file.Name(), err)
	}
	return dev, nil
}

// loopMajor is the kernel's number of loop devices.
const loopMajor = 7

// openNode opens the device, and makes its node where nobody else does.
func openNode(n int) (*os.File, error) {
	path := "/dev/loop" + strconv.Itoa(n)
	dev, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(n)))); err != nil && err != unix.EEXIST {
			return nil, &os.PathError{Op: "mknod", Path: path, Err: err}
		}
		dev, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	return dev, err
}
