// Package syncfs writes file systems and directories to disk.
package syncfs

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// All writes everything to disk that the file system which holds dir has in
// memory, and waits. For many files it costs a fraction of an fsync of each.
func All(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return Of(f)
}

// Of is All for an open file.
func Of(f *os.File) error {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: f.Name(), Err: err}
	}
	return nil
}

// Begin has the kernel start to write what it has of a file in memory, and does
// not wait: a later All finds less to do. It promises nothing.
func Begin(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	runtime.KeepAlive(f)
}

// Dir writes the names in a directory to disk: renames and removals in it.
func Dir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
