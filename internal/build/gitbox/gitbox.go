// Package gitbox runs the host's git for builds: as nobody, without capabilities, and
// with no files but its programs, its certificates and the directories that it works in.
//
// BuildKit calls "git" by the PATH. [Install] puts a script of that name there, which
// has tare-runtime call [Run] in a process of its own, and that becomes git.
package gitbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/alone"
	"github.com/tare-engine/tare/internal/linux/idmap"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// Dirs are the directories that a git of builds has to do with.
type Dirs struct {
	Bin   string // where the script is
	Cache string // below which repositories and their files lie
	Tmp   string // of what lives as long as a build
}

// id is the user and the group that git runs as: nobody else has it.
const id = 2147483642

// Install puts the script into d.Bin, for which the caller sees to a place in the PATH.
func Install(d Dirs, runtime string) error {
	if err := os.MkdirAll(d.Bin, 0o700); err != nil {
		return err
	}
	line := "exec"
	for _, word := range []string{runtime, "git", d.Bin, d.Cache, d.Tmp} {
		line += " '" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return os.WriteFile(filepath.Join(d.Bin, "git"), []byte("#!/bin/sh\n"+line+" \"$@\"\n"), 0o700)
}

// Run makes the process git with these arguments. It returns only if that fails, but for
// "git version" without a git: who asks that wants to know whether there is a use in
// asking for more, and is to hear then that there is none.
func Run(d Dirs, args []string) error {
	runtime.LockOSThread() // what follows is this thread's, and so of what it becomes
	program, err := lookPath(d.Bin)
	if err != nil {
		if len(args) == 1 && args[0] == "version" {
			return nil
		}
		return err
	}
	if err := confine(program, append(places(d, args), lent(os.Environ())...)); err != nil {
		return fmt.Errorf("run git without privileges: %w", err)
	}
	argv := append([]string{"git", "-c", "protocol.ext.allow=never"}, args...)
	return &os.PathError{Op: "exec", Path: program, Err: syscall.Exec(program, argv, os.Environ())}
}

// lookPath finds the host's git, which is not ours.
func lookPath(bin string) (string, error) {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if dir == bin || !filepath.IsAbs(dir) {
			continue
		}
		if p, err := exec.LookPath(filepath.Join(dir, "git")); err == nil {
			return filepath.EvalSymlinks(p)
		}
	}
	return "", errors.New("git is not installed on the engine's host: install it there, or send the context another way")
}

// place is a part of the host's files that git has.
type place struct {
	path  string
	write bool
}

// places are the directories that a call names: where BuildKit's own options and
// arguments lead, and nowhere that a client may have named.
func places(d Dirs, args []string) (list []place) {
	options := map[string]string{}
	for n := 0; n+1 < len(args) && strings.HasPrefix(args[n], "-"); n += 2 {
		options[args[n]] = args[n+1]
	}
	tree, dir := options["--work-tree"], options["--git-dir"]
	for _, p := range []string{tree, dir} {
		if (below(p, d.Cache) || below(p, d.Tmp)) && (p == tree || tree == "" || !below(p, tree)) {
			list = append(list, place{p, true})
		}
	}
	if tree != "" && dir == filepath.Join(tree, ".git") { // it is filled from BuildKit's copy of the remote
		if p := origin(dir); below(p, d.Cache) {
			list = append(list, place{p, false})
		}
	}
	bundles := filepath.Join(d.Tmp, "buildkit-bundle-")
	for _, arg := range args {
		if p := strings.TrimPrefix(arg, "file://"); strings.HasPrefix(p, bundles) && p == filepath.Clean(p) {
			list = append(list, place{p, false})
		}
	}
	return list
}

// origin reads from a repository's configuration where its files come from, "" if that
// is no directory.
func origin(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "config"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "url = file://"); ok {
			return p
		}
	}
	return ""
}

func below(p, dir string) bool {
	return p == filepath.Clean(p) && strings.HasPrefix(p, dir+"/")
}

// system is what programs need of the host; what is not there is left out. Private keys
// are not in it.
var system = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom",
	"/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
	"/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
	"/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/etc/crypto-policies",
}

// confine takes from the thread what git does not need.
func confine(program string, wanted []place) error {
	list := make([]place, 0, len(system)+1)
	for _, p := range system {
		list = append(list, place{p, false})
	}
	if dir := filepath.Dir(program); !slices.ContainsFunc(system, func(p string) bool { return below(dir, p) }) {
		list = append(list, place{dir, false})
	}
	ids, err := idmap.Open([]idmap.Range{{Inside: 0, Outside: id, Size: 1}}, []idmap.Range{{Inside: 0, Outside: id, Size: 1}})
	if err != nil {
		return err
	}
	defer ids.Close()
	mapped := true
	work, err := cloneAll(wanted, ids)
	if err != nil { // also where the file system cannot map owners
		mapped = false
		if work, err = cloneAll(wanted, nil); err != nil {
			return err
		}
	}
	defer closeAll(work)
	rest, err := cloneAll(present(list), nil)
	if err != nil {
		return err
	}
	defer closeAll(rest)
	names := fmt.Sprintf("root:x:0:0::/:/bin/sh\ngit:x:%d:%d::/:/bin/sh\n", id, id)
	if err := alone.RootFor(append(rest, work...), names); err != nil {
		return err
	}
	if !mapped { // what git makes must be root's
		return errors.Join(syscall.Setgroups(nil), alone.Capabilities())
	}
	return alone.As(id)
}

// present are the places that are there.
func present(list []place) []place {
	return slices.DeleteFunc(list, func(p place) bool {
		_, err := os.Stat(p.path)
		return err != nil
	})
}

// lent are files that BuildKit names in the environment.
func lent(env []string) (list []place) {
	for _, e := range env {
		if p, ok := strings.CutPrefix(e, "SSH_AUTH_SOCK="); ok {
			list = append(list, place{p, true})
		}
		if _, p, ok := strings.Cut(e, " UserKnownHostsFile="); ok && strings.HasPrefix(e, "GIT_SSH_COMMAND=") {
			list = append(list, place{p, false})
		}
	}
	return list
}

// cloneAll opens places, with the owner of their files mapped if ids is not nil: on disk
// they are the engine's, and git's for git.
func cloneAll(list []place, ids *os.File) (made []alone.Placed, err error) {
	for _, p := range list {
		m, err := mount.Clone(p.path, false)
		if err != nil {
			closeAll(made)
			return nil, err
		}
		made = append(made, alone.Placed{Path: p.path, Mount: m})
		c := mount.Change{Set: mount.NoSuid, UserNS: ids}
		if !p.write {
			c.Set |= mount.ReadOnly
		}
		if err := mount.SetAttr(m, c); err != nil {
			closeAll(made)
			return nil, fmt.Errorf("%s: %w", p.path, err)
		}
	}
	return made, nil
}

func closeAll(list []alone.Placed) {
	for _, p := range list {
		p.Mount.Close()
	}
}
