package layertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/layer"
)

// merkle hashes all that a directory has: data, metadata, attributes with
// overlayfs's own, names. Times of reading and of the inode are left out.
func merkle(t *testing.T, dir string) string {
	t.Helper()
	sum, err := hashFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func hashFile(p string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(p, &st); err != nil {
		return "", &os.PathError{Op: "lstat", Path: p, Err: err}
	}
	h := sha256.New()
	fmt.Fprintln(h, st.Mode, st.Uid, st.Gid, st.Mtim, st.Rdev)
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR { // of directories each file system counts and measures otherwise
		fmt.Fprintln(h, st.Size, st.Nlink)
	}
	if err := hashAttributes(h, p, st.Mode); err != nil {
		return "", err
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		f, err := os.Open(p)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if _, err := io.Copy(h, f); err != nil {
			return "", err
		}
	case syscall.S_IFLNK:
		to, err := os.Readlink(p)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, to)
	case syscall.S_IFDIR:
		entries, err := os.ReadDir(p)
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			sum, err := hashFile(filepath.Join(p, e.Name()))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(h, "%q %s\n", e.Name(), sum)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashAttributes(h io.Writer, p string, mode uint32) error {
	if mode&syscall.S_IFMT == syscall.S_IFLNK {
		return nil // package syscall has no lgetxattr
	}
	b := make([]byte, 64<<10)
	n, err := syscall.Listxattr(p, b)
	if err != nil {
		return &os.PathError{Op: "listxattr", Path: p, Err: err}
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		v := make([]byte, 64<<10)
		k, err := syscall.Getxattr(p, name, v)
		if err != nil {
			return &os.PathError{Op: "getxattr " + name, Path: p, Err: err}
		}
		fmt.Fprintf(h, "%q %x\n", name, v[:k])
	}
	return nil
}

// dir is where a chain's topmost layer lies.
func (s *site) dir(chain layer.ChainID) string {
	return filepath.Join(s.root, "layers", s.Driver(), chain.Encoded(), "diff")
}

// openFiles is a path to what a driver's directory has, until done is called.
func (s *site) openFiles(dir string, write bool) (p string, done func(), err error) {
	o, ok := s.driver.(layer.Opener)
	if !ok {
		return dir, func() {}, nil
	}
	f, err := o.Open(context.Background(), dir, write)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/.", f.Fd()), func() { f.Close() }, nil
}

// merkleOf hashes a chain's topmost layer.
func (s *site) merkleOf(t *testing.T, chain layer.ChainID) string {
	t.Helper()
	p, done, err := s.openFiles(s.dir(chain), false)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	return merkle(t, p)
}

// remember hashes a chain's topmost layer, for unchanged.
func (s *site) remember(t *testing.T, chain layer.ChainID) {
	t.Helper()
	if _, ok := s.hashes[chain]; !ok {
		s.hashes[chain] = s.merkleOf(t, chain)
	}
}

// unchanged compares all layers with what they were when they came.
func (s *site) unchanged(t *testing.T) {
	t.Helper()
	for chain, was := range s.hashes {
		if s.Has(chain) && s.merkleOf(t, chain) != was {
			t.Errorf("layer %s is not what was committed", chain)
		}
	}
}
