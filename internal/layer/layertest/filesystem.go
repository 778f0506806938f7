package layertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tare-engine/tare/internal/layer"
)

// box says that this process is the one in a mount namespace of its own.
const box = "TARE_LAYERTEST_BOX"

// Main is for TestMain of a driver's package: its tests run in a mount namespace
// of their own, with which the file systems go that they mount.
func Main(m *testing.M) {
	if os.Getenv(box) != "" {
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("unshare", append([]string{"-m", "--propagation", "private", "--", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), box+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(x.ExitCode())
	}
	if err != nil {
		panic(err)
	}
}

// FileSystem is one that a suite runs on.
type FileSystem struct {
	Kind  string // as mkfs has it
	Size  string // as truncate has it; "" is 4G, most of which is a hole
	Make  []string
	Mount string // options
}

// TryMount makes and mounts the file system, in a file on tmpfs, until the test
// ends. It returns what mount(8) says if that cannot be.
func (f FileSystem) TryMount(t testing.TB) (dir string, err error) {
	t.Helper()
	tmp, err := os.MkdirTemp("/dev/shm", "layertest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	img, mnt := filepath.Join(tmp, "img"), filepath.Join(tmp, "mnt")
	size := f.Size
	if size == "" {
		size = "4G"
	}
	command(t, "truncate", "-s", size, img)
	command(t, append(append([]string{"mkfs." + f.Kind, "-q"}, f.Make...), img)...)
	command(t, "mkdir", mnt)
	options := "loop"
	if f.Mount != "" {
		options += "," + f.Mount
	}
	if out, err := exec.Command("mount", "-o", options, img, mnt).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mount %s with %s: %w: %s", f.Kind, options, err, out)
	}
	t.Cleanup(func() { command(t, "umount", "-l", mnt) })
	return mnt, nil
}

func command(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
}

// RunOn runs the suite on a file system of its own.
func RunOn(t *testing.T, f FileSystem, newDriver func(t *testing.T, root string) layer.Driver) {
	dir, err := f.TryMount(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	Run(t, newDriver)
}
