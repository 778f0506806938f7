package mapped

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/dm/target"
	"github.com/tare-engine/tare/internal/linux/keyring"
)

// The key of crypt is in a file, which is read each time that the volume is mounted, or
// somebody brings it, and the kernel's key ring has it then until it is taken away, or
// the machine goes down. In our memory it is bytes, which are cleared after use; a key is
// no part of any record, log or answer.

// cipher takes two keys of half the length each.
const cipher = "aes-xts-plain64"

// KeySize is how many bytes a key has. 32 of them do too.
const (
	KeySize      = 64
	smallKeySize = 32
)

// keyCheck tells a wrong key, of which the kernel knows nothing.
type keyCheck struct {
	File string `json:",omitempty"` // "": somebody brings it
	Size int
	Salt []byte
	MAC  []byte // of the volume's ID
}

func (k *keyCheck) mac(id string, key []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(k.Salt)
	m.Write([]byte("tare volume " + id))
	return m.Sum(nil)
}

func (k *keyCheck) check(id string, key []byte) error {
	if len(key) != k.Size || !hmac.Equal(k.mac(id, key), k.MAC) {
		return errdefs.New(errdefs.Forbidden, "the key is wrong: it is not the one that the volume was made with")
	}
	return nil
}

func newKeyCheck(id, file string, key []byte) (*keyCheck, error) {
	if len(key) != KeySize && len(key) != smallKeySize {
		return nil, invalid("the key has %d bytes, it needs %d (or %d), as of head -c %d /dev/urandom", len(key), KeySize, smallKeySize, KeySize)
	}
	k := &keyCheck{File: file, Size: len(key), Salt: make([]byte, 16)}
	rand.Read(k.Salt)
	k.MAC = k.mac(id, key)
	return k, nil
}

// readKey reads a key file, which nobody else may read.
func readKey(path string) (key []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if notThere(err) {
			err = errdefs.As(errdefs.InvalidArgument, err)
		}
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch owner := info.Sys().(*syscall.Stat_t).Uid; {
	case !info.Mode().IsRegular():
		return nil, invalid("keyfile %s is no file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, invalid("keyfile %s may be read by others (mode %04o): chmod 600", path, info.Mode().Perm())
	case owner != 0 && int(owner) != os.Geteuid():
		return nil, invalid("keyfile %s belongs to user %d, who can read it: chown root", path, owner)
	}
	buf := make([]byte, KeySize+1)
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(buf)
		return nil, err
	}
	return buf[:n], nil
}

// firstKeyOfFile makes the file system of a new volume, with a key that a file has.
func (d *Driver) firstKeyOfFile(ctx context.Context, dir string, st *state, path string) error {
	key, err := readKey(path)
	if err != nil {
		return err
	}
	defer clear(key)
	if st.Key, err = newKeyCheck(st.ID, path, key); err != nil {
		return fmt.Errorf("keyfile %s: %w", path, err)
	}
	if err := d.put(dir, st); err != nil {
		return err
	}
	return d.format(ctx, dir, st)
}

// keyName is what a volume's key is called in the kernel.
func (d *Driver) keyName(st *state) string { return "tare:" + d.cfg.Engine + "-" + st.ID }

// withKey calls f with the key of a volume, if it needs one. It is wiped afterwards.
func (d *Driver) withKey(_ string, st *state, f func(target.Key) error) error {
	switch {
	case st.Target != crypt:
		return f(target.Key{})
	case st.Key == nil:
		return errLocked()
	case st.Key.File == "":
		name := d.keyName(st)
		err := keyring.With(name, func() error { return f(target.RingKey(st.Key.Size, "logon", name)) })
		if errors.Is(err, keyring.ErrAbsent) {
			return errLocked()
		}
		return err
	}
	key, err := readKey(st.Key.File)
	if err != nil {
		return err
	}
	defer clear(key)
	if err := st.Key.check(st.ID, key); err != nil {
		return fmt.Errorf("keyfile %s: %w", st.Key.File, err)
	}
	k := target.NewKey(key)
	defer k.Wipe()
	return f(k)
}

func errLocked() error {
	return errdefs.New(errdefs.Conflict, "the volume is locked: bring its key (tare volume unlock)")
}

// Unlock has the kernel keep the key of a volume. The first key makes its file system.
// The caller wipes it.
func (d *Driver) Unlock(ctx context.Context, dir string, key []byte) error {
	st, err := get(dir)
	if err != nil {
		return err
	}
	switch {
	case st.Target != crypt:
		return invalid("target %s has no key", st.Target)
	case st.Key != nil && st.Key.File != "":
		return invalid("the key of the volume is in the file %s", st.Key.File)
	}
	first := st.Key == nil || !st.Made
	if first {
		if st.Key, err = newKeyCheck(st.ID, "", key); err != nil {
			return err
		}
	} else if err := st.Key.check(st.ID, key); err != nil {
		return err
	}
	if err := keyring.Add(d.keyName(st), key); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/key-kept")
	if !first {
		return nil
	}
	if err := d.put(dir, st); err != nil {
		return err
	}
	return d.format(ctx, dir, st)
}

// Lock has the kernel forget the key of a volume that nobody has mounted.
func (d *Driver) Lock(dir string) error {
	st, err := get(dir)
	if err != nil {
		return err
	}
	if st.Target != crypt || st.Key != nil && st.Key.File != "" {
		return invalid("the volume has no key that somebody has brought")
	}
	return keyring.Remove(d.keyName(st))
}
