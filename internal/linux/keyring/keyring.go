// Package keyring keeps secrets in the kernel: keys of the kind "logon" in the key ring
// of the user, root's that is, which no program can read. They last until they are
// removed, or the machine goes down.
//
//	err := keyring.Add("app:disk", secret)
//	err = keyring.With("app:disk", func() error { … }) // the kernel finds it for what f asks
//	err = keyring.Remove("app:disk")
package keyring

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

const kind = "logon"

// ErrAbsent is about a key that is not there.
var ErrAbsent = errors.New("there is no such key")

// Add keeps a secret under a name, which begins with a word and a colon. One that is
// there under the name is replaced.
func Add(name string, secret []byte) error {
	if _, err := unix.AddKey(kind, name, secret, unix.KEY_SPEC_USER_KEYRING); err != nil {
		return fmt.Errorf("keep key %s in the kernel: %w", name, err)
	}
	return nil
}

// Has reports whether there is a key of the name.
func Has(name string) bool {
	_, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, kind, name, 0)
	return err == nil
}

// Remove takes a key away, if it is there.
func Remove(name string) error {
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, kind, name, 0)
	if absent(err) {
		return nil
	}
	if err == nil {
		_, err = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0)
	}
	if err != nil {
		return fmt.Errorf("remove key %s from the kernel: %w", name, err)
	}
	return nil
}

// With calls f on a thread for which the kernel finds the key: a session's key ring need
// not lead to the user's.
func With(name string, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, kind, name, unix.KEY_SPEC_THREAD_KEYRING)
	if absent(err) {
		return ErrAbsent
	}
	if err != nil {
		return fmt.Errorf("find key %s: %w", name, err)
	}
	defer unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_THREAD_KEYRING, 0, 0)
	return f()
}

func absent(err error) bool {
	return errors.Is(err, unix.ENOKEY) || errors.Is(err, unix.EKEYREVOKED) || errors.Is(err, unix.EKEYEXPIRED)
}
