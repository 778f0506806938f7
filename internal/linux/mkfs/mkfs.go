// Package mkfs makes file systems by the host's programs.
package mkfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// ErrMissing is about a program that the host does not have.
var ErrMissing = errors.New("the program is not there")

// Kinds are the file systems that can be made.
func Kinds() []string { return []string{"ext4", "xfs"} }

// Make makes a file system of the kind on a device, or in a file that has its size. What
// is there is lost.
func Make(ctx context.Context, kind, path string) error {
	switch kind {
	case "ext4":
		// No blocks kept for root, who may fill it as everybody; no tables left to be written later.
		return run(ctx, "mke2fs", "e2fsprogs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)
	case "xfs":
		return run(ctx, "mkfs.xfs", "xfsprogs", "-q", "-f", path)
	}
	return fmt.Errorf("no file system %q: %s", kind, strings.Join(Kinds(), ", "))
}

func run(ctx context.Context, name, debian string, args ...string) error {
	program, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%s is needed on the engine's machine (Debian: %s): %w", name, debian, ErrMissing)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(slices.Clone(os.Environ()), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "No space left on device") { // it has no exit status of its own
		return fmt.Errorf("%s: write %s: %w", name, args[len(args)-1], syscall.ENOSPC)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
