//go:build !windows

package cliplugin

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const suffix = ""

// checkOwner refuses a program that somebody else may have put there: it and its
// directory belong to root or to us, and not everybody may write to them.
func checkOwner(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, at := range []string{filepath.Dir(path), filepath.Dir(real), real} {
		st, err := os.Stat(at)
		if err != nil {
			return err
		}
		owner := int(st.Sys().(*syscall.Stat_t).Uid)
		if owner != 0 && owner != os.Geteuid() {
			return fmt.Errorf("%s belongs to user %d, not to root or to you: it is not run", at, owner)
		}
		if st.Mode().Perm()&0o002 != 0 && st.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("%s can be changed by every user (chmod o-w %s): it is not run", at, at)
		}
	}
	return nil
}
