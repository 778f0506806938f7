// Command tare-union makes union mounts and serves them; see package
// internal/union for what they are. It is also the helper of mount(8):
//
//	ln -s …/tare-union /sbin/mount.fuse.tare-union
//	mount -t fuse.tare-union none /mnt -o br:/rw=rw:/base=ro
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/mnt"
)

var version, commit = "dev", "unknown"

func main() {
	err := run(os.Args, os.Stdout)
	var u usageError
	switch {
	case errors.As(err, &u):
		fmt.Fprintf(os.Stderr, "tare-union: %s\n\n%s", err, help)
		os.Exit(exitUsage)
	case err != nil:
		fmt.Fprintf(os.Stderr, "tare-union: %s\n", err)
		os.Exit(exitFailure)
	}
}

// Exit codes: those of mount(8).
const (
	exitUsage   = 1
	exitFailure = 32
)

const help = `Usage:
  tare-union mount -o br:DIR=PERM[:DIR=PERM...][,OPTION...] MOUNTPOINT
  tare-union umount  MOUNTPOINT
  tare-union ls      MOUNTPOINT
  tare-union add     MOUNTPOINT INDEX:DIR[=PERM]
  tare-union append  MOUNTPOINT DIR[=PERM]
  tare-union prepend MOUNTPOINT DIR[=PERM]
  tare-union mod     MOUNTPOINT DIR=PERM
  tare-union del     MOUNTPOINT DIR

Branches, topmost first. PERM is rw, ro or rr (nobody else changes it), with
+wh (ro, rr: its whiteouts count) or +nolwh (rw: whiteouts are no hard links).

Options:
  create=tdp|rr|mfs[:SEC]|pmfs[:SEC]|tdmfs:BYTES[:SEC]|mfsrr:BYTES[:SEC]|pmfsrr:BYTES[:SEC]
                    which writable branch gets something new
  cpup=tdp|bup|bu   which writable branch gets a copy
  udba=reval|none   whether others change branches directly
  coo=none|leaf|all copy up when opened, even for reading: not, files, directories too
  diropq=w|a        new directories are opaque: where one was removed, always
  sum               free space is that of all branches
  shwh              show whiteouts (with ro)
  volatile          nothing has to survive a power cut
  ro nosuid nodev noexec noatime

Exit codes: 0, 1 (wrong use), 32 (failure)
`

// usageError is about the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

func run(args []string, out io.Writer) error {
	if strings.HasPrefix(filepath.Base(args[0]), "mount.") {
		return mountHelper(args[1:])
	}
	if len(args) < 2 {
		return usageError("no command given")
	}
	switch verb, rest := args[1], args[2:]; verb {
	case "help", "-h", "--help":
		fmt.Fprint(out, help)
		return nil
	case "version", "--version", "-v":
		fmt.Fprintf(out, "tare-union version %s, build %s\n", version, commit)
		return nil
	case mnt.ServeVerb:
		return mnt.Serve(rest)
	case mnt.OpenVerb:
		return mnt.Opened(rest)
	case "mount":
		return runMount(rest)
	case "umount", "ls":
		if len(rest) != 1 {
			return usageError(verb + " takes a mount point")
		}
		return runOne(verb, rest[0], out)
	case "add", "append", "prepend", "mod", "del":
		if len(rest) != 2 {
			return usageError(verb + " takes a mount point and a branch")
		}
		return runChange(verb, rest[0], rest[1])
	default:
		return usageError(fmt.Sprintf("unknown command %q", verb))
	}
}

// mountHelper takes what mount(8) gives: SOURCE MOUNTPOINT -o OPTIONS.
func mountHelper(args []string) error {
	var rest []string
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-n", "-s", "-v": // no mtab here; options are never ignored; nothing more to say
		case "-t":
			i++
		default:
			rest = append(rest, args[i])
		}
	}
	if len(rest) != 4 || rest[2] != "-o" {
		return usageError("mount(8) is to give SOURCE MOUNTPOINT -o OPTIONS")
	}
	return runMount([]string{"-o", rest[3], rest[1]})
}

func runMount(args []string) error {
	if len(args) == 3 && args[1] == "-o" {
		args = []string{args[1], args[2], args[0]}
	}
	if len(args) != 3 || args[0] != "-o" {
		return usageError("mount takes -o OPTIONS and a mount point")
	}
	c, err := union.ParseConfig(args[1])
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return mnt.Mount(self, c, args[2])
}

func runOne(verb, path string, out io.Writer) error {
	u, err := mnt.Find(path)
	if err != nil {
		return err
	}
	if verb == "umount" {
		return u.Unmount()
	}
	list, err := u.Branches()
	for _, b := range list {
		fmt.Fprintln(out, b)
	}
	return err
}

func runChange(verb, path, arg string) error {
	u, err := mnt.Find(path)
	if err != nil {
		return err
	}
	index := map[string]int{"prepend": 0, "append": -1}[verb]
	switch verb {
	case "del":
		return u.Delete(arg)
	case "add":
		number, dir, ok := strings.Cut(arg, ":")
		n, err := strconv.ParseUint(number, 10, 16)
		if !ok || err != nil {
			return usageError(fmt.Sprintf("add: %q is not INDEX:DIR[=PERM]", arg))
		}
		index, arg = int(n), dir
	case "mod":
		if !strings.Contains(arg, "=") {
			return usageError(fmt.Sprintf("mod: %q is not DIR=PERM", arg))
		}
	}
	b, err := union.ParseBranch(arg)
	if err != nil {
		return err
	}
	if verb == "mod" {
		return u.Modify(b)
	}
	return u.Add(index, b)
}
