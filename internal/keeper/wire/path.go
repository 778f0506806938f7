package wire

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// SocketPath is where the keeper of an exec root listens.
func SocketPath(execRoot string) string { return filepath.Join(execRoot, "keeper", "keeper.sock") }

// Files in live/ID that an OCI runtime makes or connects with.
const (
	RuntimePid     = "runtime.pid" // the pid of the process it has left behind
	RuntimeConsole = "console"     // socket to which it sends its terminal's master
)

// ShortPath is another path of the same file for as long as dir is open: a
// socket's address has room for 107 bytes only.
func ShortPath(path string) (dir *os.File, short string, err error) {
	dir, err = os.Open(filepath.Dir(path))
	if err != nil {
		return nil, "", err
	}
	n, err := rawfd.Number(dir)
	if err != nil {
		return nil, "", errors.Join(err, dir.Close())
	}
	return dir, "/proc/self/fd/" + strconv.Itoa(n) + "/" + filepath.Base(path), nil
}

// UsableID says whether an ID may be a file's name.
func UsableID(id string) bool {
	if id == "" || len(id) > 128 || id[0] == '.' {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
}
