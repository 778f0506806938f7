// Package mnt makes union mounts, finds them, changes them and ends them.
//
// Each has a server process of its own, the program tare-union itself, which
// ends when the last mount of the file system is gone:
//
//	tare-union mount            opens branches and /dev/fuse, mounts detached,
//	  └ tare-union serve        starts this with the descriptors, waits until it
//	                            answers, and moves the mount to its place
//
// Beside the server there is an heir (linux/spawn): a tiny process that has the same
// descriptors. When the server is killed it becomes the next one, which finds in a
// ledger what the one before knew, and goes on (union/server).
//
// The server has no more than these descriptors: its root is an empty directory,
// it is in network and mount namespaces of its own, and it has seven capabilities.
// A branch is a copy of the mount that it lies on, without what is mounted below;
// that of a branch which is not rw is read-only, whatever the server tries.
//
// Requests come by a socket, /run/tare-union/ID.sock; ID is the source of the
// mount, as findmnt shows it.
package mnt

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/alone"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/undo"
	"github.com/tare-engine/tare/internal/union"
)

// runDir has the sockets.
const runDir = "/run/tare-union"

// Type is the type of the file system, as /proc/self/mountinfo shows it.
const Type = "fuse.tare-union"

// Descriptors of the server, in order; the branches follow.
const (
	fdDevice = 3 + iota
	fdSocket
	fdReady
	fdRunDir  // to remove the socket at the end
	fdProgram // this program, for the heir
	fdBranches
)

// Mount mounts a union at a directory. Program is the one that serves.
func Mount(program string, c union.Config, target string) (err error) {
	if c.Branches, err = realDirs(c.Branches); err != nil {
		return err
	}
	at, err := os.OpenFile(target, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount point %w", err)
	}
	defer at.Close()
	Sweep()
	m, _, err := serve(program, c, IDs{})
	if err != nil {
		return err
	}
	defer m.Close() // if it was not moved to its place, this unmounts it and so ends the server
	if err := mount.Move(m, at); err != nil {
		return fmt.Errorf("mount at %s: %w", target, err)
	}
	return nil
}

// IDs maps the ids of the files in branches; in the union, and in branches that
// are not mapped, they have the ids that result.
type IDs struct {
	NS   *os.File // a user namespace; nil: they are as they are
	From int      // branches above this index are not mapped
}

// serve makes a union that is mounted nowhere yet, with its server. It ends when
// the result is closed without having been mounted.
func serve(program string, c union.Config, ids IDs) (m *os.File, id string, err error) {
	var u undo.Stack
	defer u.Run(&err)
	dirs, err := cloneAll(c.Branches, ids)
	defer closeAll(dirs)
	if err != nil {
		return nil, "", err
	}
	id, err = newID()
	if err != nil {
		return nil, "", err
	}
	socket, err := listen(id)
	if err != nil {
		return nil, "", err
	}
	path := socketPath(id)
	u.Add(func() error { return os.Remove(path) })
	defer socket.Close()
	m, dev, err := fuseMount(id, c.Options.Flags)
	if err != nil {
		return nil, "", err
	}
	u.Add(m.Close)
	defer dev.Close()
	if err := start(program, id, c, dev, socket, dirs); err != nil {
		return nil, "", err
	}
	return m, id, nil
}

// oPath is O_PATH, which package syscall does not have.
const oPath = 0x200000

// realDirs follows symbolic links of branches, so that one cannot be inside
// another in disguise.
func realDirs(list []union.Branch) ([]union.Branch, error) {
	var out []union.Branch
	for _, b := range list {
		dir, err := filepath.EvalSymlinks(b.Dir)
		if err != nil {
			return nil, fmt.Errorf("branch %s: %w", b.Dir, err)
		}
		given := b.Dir
		b.Dir = dir
		if out, err = union.Insert(out, len(out), b); err != nil {
			if given != dir {
				return nil, fmt.Errorf("branch %s is %w", given, err)
			}
			return nil, err
		}
	}
	return out, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func newID() (string, error) {
	b := make([]byte, 6)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return "union-" + hex.EncodeToString(b), nil
}

func socketPath(id string) string { return filepath.Join(runDir, socketName(id)) }

func socketName(id string) string { return id + ".sock" }

// listen makes the socket of a mount.
func listen(id string) (*os.File, error) {
	if err := os.Mkdir(runDir, 0o700); err != nil && !os.IsExist(err) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(id), Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(socketPath(id), 0o600); err != nil {
		return nil, err
	}
	return l.File()
}

// Sweep removes the sockets of mounts whose servers were killed.
func Sweep() {
	old, _ := filepath.Glob(filepath.Join(runDir, "union-*.sock"))
	for _, path := range old {
		gone(path)
	}
}

// gone removes a socket whose server has ended.
func gone(path string) bool {
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED) && os.Remove(path) == nil
}

// fuseMount makes the file system and a mount of it that is nowhere yet.
func fuseMount(id string, f union.Flags) (m, dev *os.File, err error) {
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	dev = os.NewFile(uintptr(fd), "/dev/fuse")
	fs, err := mount.OpenFS("fuse")
	if err == nil {
		defer fs.Close()
		if err = configure(fs, id, fd, f); err == nil {
			m, err = fs.Mount(attrs(f))
		}
	}
	if err != nil {
		dev.Close()
		return nil, nil, err
	}
	return m, dev, nil
}

func configure(fs *mount.FS, id string, dev int, f union.Flags) error {
	for _, p := range [][2]string{
		{"source", id}, {"subtype", "tare-union"}, {"fd", fmt.Sprint(dev)}, {"rootmode", "40000"},
		{"user_id", "0"}, {"group_id", "0"}, {"max_read", "1048576"},
	} {
		if err := fs.SetString(p[0], p[1]); err != nil {
			return err
		}
	}
	flags := []string{"allow_other", "default_permissions"}
	if f.ReadOnly {
		flags = append(flags, "ro")
	}
	for _, key := range flags {
		if err := fs.SetFlag(key); err != nil {
			return err
		}
	}
	return nil
}

func attrs(f union.Flags) (a mount.Attr) {
	for _, x := range []struct {
		on bool
		a  mount.Attr
	}{{f.ReadOnly, mount.ReadOnly}, {f.NoSuid, mount.NoSuid}, {f.NoDev, mount.NoDev}, {f.NoExec, mount.NoExec}, {f.NoAtime, mount.NoAtime}} {
		if x.on {
			a |= x.a
		}
	}
	return a
}

// start starts the server and waits until it answers requests.
func start(program, id string, c union.Config, dev, socket *os.File, dirs []*os.File) error {
	if err := alone.CloseOnExec(); err != nil {
		return fmt.Errorf("descriptors: %w", err)
	}
	run, err := os.OpenFile(runDir, oPath|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer run.Close()
	self, err := os.Open(program)
	if err != nil {
		return err
	}
	defer self.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(program, append([]string{ServeVerb, id}, c.Args()...)...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.ExtraFiles = append([]*os.File{dev, socket, w, run, self}, dirs...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: alone.Namespaces}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	said, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err == nil && string(said) == "ready" {
		return cmd.Process.Release()
	}
	cmd.Process.Kill()
	cmd.Wait()
	if s := strings.TrimSpace(string(said)); s != "" && s != "ready" {
		return errors.New(s)
	}
	return fmt.Errorf("the server ended before it was ready: %v", cmd.ProcessState)
}
