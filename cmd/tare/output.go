package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/docker/go-units"
	"github.com/moby/term"
)

// errTerminal is docker's answer to who would see an archive on the screen.
var errTerminal = errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")

// writeArchive writes what open returns to the file, or to STDOUT if there is
// none. A file appears, or is replaced, only when the archive is whole; whether
// it can be is found out before open is called.
func writeArchive(stdout *os.File, path string, open func() (io.ReadCloser, error)) error {
	if path == "" {
		if term.IsTerminal(stdout.Fd()) {
			return errTerminal
		}
		widen(stdout)
		_, err := copyArchive(stdout, open)
		return err
	}
	path, err := destination(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-"+filepath.Base(path))
	if err != nil {
		return err
	}
	n, err := copyArchive(f, open)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	if errors.Is(err, syscall.ENOSPC) { // of the temporary file nobody knows
		return fmt.Errorf("write %s: more than %s are needed: %w", path, units.HumanSize(float64(n)), syscall.ENOSPC)
	}
	return err
}

// copyArchive returns how many bytes it could write.
func copyArchive(to io.Writer, open func() (io.ReadCloser, error)) (int64, error) {
	in, err := open()
	if err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, in, make([]byte, 256<<10))
	return n, errors.Join(err, in.Close())
}

// destination follows a link to the file that is to be written, and refuses
// what no rename can replace.
func destination(path string) (string, error) {
	if at, err := filepath.EvalSymlinks(path); err == nil {
		path = at
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("invalid output path: %w", err)
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", err
	}
	if what := unfit(info.Mode()); what != "" {
		return "", errors.New("cannot write to a " + what)
	}
	return path, nil
}

// unfit names what a file is that an archive cannot take the place of.
func unfit(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return ""
	case m.IsDir():
		return "directory"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe file"
	case m&fs.ModeSocket != 0:
		return "socket file"
	case m&fs.ModeCharDevice != 0:
		return "character device file"
	case m&fs.ModeDevice != 0:
		return "block device file"
	}
	return "irregular file"
}
