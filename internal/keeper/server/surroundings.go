package server

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"syscall"
)

// ownMounts gives the calling thread a mount namespace of its own with as few
// mounts as the keeper needs: each costs every start about a microsecond, and
// one that stayed would keep its file system busy when the host unmounts it.
func ownMounts(root string) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	points, err := mountPoints()
	if err != nil {
		return err
	}
	for i := len(points) - 1; i >= 0; i-- {
		if needed(points[i], root) {
			continue
		}
		// A mount below one that went before is gone already.
		err := syscall.Unmount(points[i], syscall.MNT_DETACH)
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			return &os.PathError{Op: "umount", Path: points[i], Err: err}
		}
	}
	return nil
}

// needed reports whether the keeper or a plan uses what is mounted at point:
// the way to the run directory, and the kernel's own file systems.
func needed(point, root string) bool {
	if point == "/" || root == point || strings.HasPrefix(root, point+"/") {
		return true
	}
	for _, p := range []string{"/proc", "/sys", "/dev"} {
		if point == p || strings.HasPrefix(point, p+"/") {
			return true
		}
	}
	return false
}

func mountPoints() ([]string, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20) // an overlay of many layers is a long line
	for s.Scan() {
		if fields := strings.Fields(s.Text()); len(fields) > 4 {
			out = append(out, unescape(fields[4]))
		}
	}
	return out, s.Err()
}

// unescape turns the \ooo of mountinfo back into bytes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
