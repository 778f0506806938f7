package container

import (
	"errors"
	"io/fs"
	"os"
	"strconv"

	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// mountShm mounts the tmpfs that a container offers to others as /dev/shm.
// size is in bytes; it belongs to the root of ids.
func mountShm(dir string, size int64, ids *idrange.Map) error {
	if err := os.Mkdir(dir, 0700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	t, err := mount.OpenFS("tmpfs")
	if err != nil {
		return err
	}
	defer t.Close()
	if err := errors.Join(t.SetString("mode", "1777"), t.SetString("size", strconv.FormatInt(size, 10)),
		t.SetString("uid", strconv.FormatUint(uint64(ids.HostUID(0)), 10)), t.SetString("gid", strconv.FormatUint(uint64(ids.HostGID(0)), 10))); err != nil {
		return err
	}
	m, err := t.Mount(mount.NoSuid | mount.NoDev | mount.NoExec)
	if err != nil {
		return err
	}
	defer m.Close()
	return mount.MoveTo(m, dir)
}

// unmountShm takes it away if the container has one. Others that have it keep
// it.
func (r *records) unmountShm(v *View) error {
	if !v.HostConfig.IpcMode.IsShareable() {
		return nil
	}
	dir := r.shmDir(v.ID)
	return errors.Join(mount.Detach(dir), removeFile(dir))
}
