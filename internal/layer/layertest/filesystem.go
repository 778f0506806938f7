package layertest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/projquota"
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

// RunSomeOn is RunSome on a file system of its own.
func RunSomeOn(t *testing.T, f FileSystem, newDriver func(t *testing.T, root string) layer.Driver) {
	dir, err := f.TryMount(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	RunSome(t, newDriver)
}

// RunOn runs the suite on a file system of its own.
func RunOn(t *testing.T, f FileSystem, newDriver func(t *testing.T, root string) layer.Driver) {
	if operation(t, newDriver) { // on a file system that is there
		return
	}
	dir, err := f.TryMount(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	Run(t, newDriver)
}

// MountQuota is TryMount for a file system with project quota. Where this kernel
// has none compiled in, the test is skipped.
func (f FileSystem) MountQuota(t *testing.T) string {
	t.Helper()
	dir, err := f.TryMount(t)
	if err != nil {
		if quotaInKernel(t) {
			t.Fatal(err)
		}
		t.Skip("this kernel has no quota for ", f.Kind, " (CONFIG_XFS_QUOTA, CONFIG_QFMT_V2)")
	}
	if !projquota.Enabled(dir) {
		if quotaInKernel(t) {
			t.Fatalf("%s mounted with %s has no project quota", f.Kind, f.Mount)
		}
		t.Skip("this kernel has no quota for ", f.Kind, " (CONFIG_XFS_QUOTA, CONFIG_QFMT_V2)")
	}
	return dir
}

// quotaInKernel reports whether this kernel was built with the quota of both file
// systems, as far as it tells.
func quotaInKernel(t *testing.T) bool {
	t.Helper()
	if out, err := exec.Command("zcat", "/proc/config.gz").Output(); err == nil {
		return bytes.Contains(out, []byte("CONFIG_XFS_QUOTA=y")) && bytes.Contains(out, []byte("CONFIG_QFMT_V2="))
	}
	release, err := exec.Command("uname", "-r").Output()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile("/boot/config-" + string(bytes.TrimSpace(release)))
	return err != nil || bytes.Contains(out, []byte("CONFIG_XFS_QUOTA=y"))
}

// MountOverlay mounts an overlayfs that can be written to, until the test ends.
func MountOverlay(t *testing.T) string {
	t.Helper()
	tmp := t.TempDir()
	command(t, "mkdir", tmp+"/l", tmp+"/u", tmp+"/w", tmp+"/m")
	command(t, "mount", "-t", "overlay", "overlay", "-o", "lowerdir="+tmp+"/l,upperdir="+tmp+"/u,workdir="+tmp+"/w", tmp+"/m")
	t.Cleanup(func() { command(t, "umount", "-l", tmp+"/m") })
	return tmp + "/m"
}
