//go:build root

package mnt

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/model"
)

// server finds the server process of a mount.
func (r *rig) server() int {
	r.t.Helper()
	pid := 0
	until(r.t, "there is a server", func() bool { pid = r.findServer(); return pid > 0 })
	return pid
}

func (r *rig) findServer() int {
	for _, pid := range processes(r.t) {
		if parent, err := process.Parent(pid); err == nil && r.serves(pid) && !r.serves(parent) {
			return pid
		}
	}
	return 0
}

// serves reports whether a process has a server's words. An heir has them too for a
// moment, until it has given up its memory.
func (r *rig) serves(pid int) bool {
	args, _ := os.ReadFile(fmt.Sprint("/proc/", pid, "/cmdline"))
	words := strings.Split(string(args), "\x00")
	return len(words) > 4 && words[1] == ServeVerb && strings.HasPrefix(words[4], r.dir+"/")
}

func processes(t testing.TB) (list []int) {
	t.Helper()
	all, err := os.ReadDir("/proc")
	must(t, err)
	for _, e := range all {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// heir returns the process that will take over from another.
func heir(t testing.TB, server int) int {
	t.Helper()
	found := 0
	until(t, "there is an heir", func() bool {
		for _, pid := range processes(t) {
			if parent, err := process.Parent(pid); err == nil && parent == server {
				found = pid
			}
		}
		return found > 0
	})
	return found
}

// killAll kills the server and its heir: nobody takes over.
func (r *rig) killAll() {
	r.t.Helper()
	server := r.server()
	must(r.t, syscall.Kill(server, syscall.SIGSTOP)) // else it makes another heir
	must(r.t, syscall.Kill(heir(r.t, server), syscall.SIGKILL))
	must(r.t, syscall.Kill(server, syscall.SIGKILL))
}

// until polls for something that is about to happen.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestServerIsAlone: it has nothing that it does not need.
func TestServerIsAlone(t *testing.T) {
	dir := tempDir(t)
	secret := filepath.Join(dir, "secret")
	leak, err := syscall.Open(secret, syscall.O_CREAT|syscall.O_RDWR, 0o600) // without O_CLOEXEC
	must(t, err)
	defer syscall.Close(leak)
	r := mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	old := r.server()
	aloneIs(t, old, "")
	must(t, syscall.Kill(old, syscall.SIGKILL))
	must(t, os.WriteFile(r.path("f"), nil, 0o600))
	aloneIs(t, r.server(), ledgerVar)
}

func aloneIs(t *testing.T, server int, variable string) {
	t.Helper()
	proc := "/proc/" + strconv.Itoa(server)
	status, err := os.ReadFile(proc + "/status")
	must(t, err)
	// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SYS_ADMIN, MKNOD, SETFCAP
	for _, line := range []string{"CapInh:\t0000000000000000", "CapPrm:\t000000008820001b", "CapEff:\t000000008820001b",
		"CapBnd:\t000000008820001b", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(status), line) {
			t.Errorf("no %q in\n%s", line, status)
		}
	}
	tasks, err := filepath.Glob(proc + "/task/*/status")
	must(t, err)
	for _, p := range tasks {
		if b, err := os.ReadFile(p); err == nil && !strings.Contains(string(b), "CapEff:\t000000008820001b") {
			t.Errorf("%s has other capabilities", p)
		}
	}
	for _, ns := range []string{"mnt", "net", "ipc", "uts"} {
		theirs, err := os.Readlink(proc + "/ns/" + ns)
		must(t, err)
		if ours, _ := os.Readlink("/proc/self/ns/" + ns); ours == theirs {
			t.Errorf("namespace %s is shared", ns)
		}
	}
	mounts, err := os.ReadFile(proc + "/mountinfo")
	must(t, err)
	if n := strings.Count(string(mounts), "\n"); n != 2 {
		t.Errorf("%d mounts: %s", n, mounts)
	}
	fds, err := os.ReadDir(proc + "/fd")
	must(t, err)
	for _, fd := range fds {
		to, err := os.Readlink(proc + "/fd/" + fd.Name())
		must(t, err)
		if n, _ := strconv.Atoi(fd.Name()); n <= 2 && to != "/dev/null" || strings.Contains(to, "secret") {
			t.Errorf("descriptor %s is %s", fd.Name(), to)
		}
	}
	env, err := os.ReadFile(proc + "/environ")
	must(t, err)
	if name, _, _ := strings.Cut(string(env), "="); name != variable {
		t.Errorf("environment %q", env)
	}
}

// TestKilledServer: when nobody takes over, what was written is in the branch, paths
// answer ENOTCONN, and the mount can be taken away and made anew.
func TestKilledServer(t *testing.T) {
	dir := tempDir(t)
	r := mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	must(t, os.WriteFile(r.path("f"), []byte("written"), 0o644))
	r.killAll()
	until(t, "ENOTCONN", func() bool { _, err := os.Stat(r.path("g")); return errors.Is(err, syscall.ENOTCONN) })
	r.unmount()
	r = mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	r.want("mnt/f", "written")
}

// TestBranchesChangeLive: added ones hide and whiteouts count; what is open and
// mounted on stays; removed ones must not be in use.
func TestBranchesChangeLive(t *testing.T) {
	for _, options := range []string{"udba=none", "udba=reval"} {
		t.Run(options, func(t *testing.T) { branchesChangeLive(t, options) })
	}
}

func branchesChangeLive(t *testing.T, options string) {
	dir := tempDir(t)
	r := &rig{t: t, dir: dir}
	r.write("base/d/f", "base")
	r.write("base/d/g", "base")
	r.write("base/gone", "base")
	r.write("top/d/f", "top")
	r.write("top/d/only", "top")
	r.write("top/.wh.gone", "")
	r.write("low/d/low", "low")
	r = mountUnion(t, dir, "rw=rw:base=ro", options)
	r.want("mnt/d/f", "base")
	r.wantGone("mnt/d/low")
	open, err := os.Open(r.path("d/f"))
	must(t, err)
	defer open.Close()
	must(t, syscall.Mount("tmpfs", r.path("d"), "tmpfs", 0, "")) // stands for what a container mounts
	branch := func(name string, perm union.Perm, wh bool) union.Branch {
		return union.Branch{Dir: filepath.Join(dir, name), Perm: perm, WH: wh}
	}
	must(t, r.Add(0, branch("top", union.RO, true)))
	must(t, r.Add(-1, branch("low", union.RO, false)))
	if st := stat(t, r.path("d")); st.Ino != 1 {
		t.Error("what was mounted on a directory is gone")
	}
	must(t, syscall.Unmount(r.path("d"), 0))
	r.want("mnt/d/f", "top")
	r.want("mnt/d/g", "base")
	r.want("mnt/d/low", "low")
	r.wantGone("mnt/gone")
	if b, err := os.ReadFile("/proc/self/fd/" + strconv.Itoa(int(open.Fd()))); string(b) != "base" {
		t.Errorf("the open file is %q (%v)", b, err)
	}
	if list, err := r.Branches(); err != nil || union.Format(list) != strings.ReplaceAll("D/top=ro+wh:D/rw=rw:D/base=ro:D/low=ro", "D", dir) {
		t.Errorf("%v (%v)", union.Format(list), err)
	}
	busy := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%s: %v", what, err)
		}
	}
	busy("a file is open", r.Delete(filepath.Join(dir, "base")))
	must(t, open.Close())
	inside := exec.Command("sleep", "60")
	must(t, os.Mkdir(filepath.Join(dir, "low/here"), 0o755))
	if options == "udba=none" { // the kernel remembers that there is none
		must(t, r.Modify(branch("low", union.RR, false)))
	}
	inside.Dir = r.path("here")
	must(t, inside.Start())
	busy("a working directory", r.Delete(filepath.Join(dir, "low")))
	must(t, inside.Process.Kill())
	inside.Wait()
	must(t, r.Delete(filepath.Join(dir, "low")))
	must(t, r.Delete(filepath.Join(dir, "top")))
	r.want("mnt/d/f", "base")
	r.want("mnt/gone", "base")
	r.wantGone("mnt/d/low")

	must(t, os.WriteFile(r.path("new"), []byte("new"), 0o644))
	w, err := os.OpenFile(r.path("new"), os.O_WRONLY, 0)
	must(t, err)
	busy("a file is open for writing", r.Modify(branch("rw", union.RO, false)))
	must(t, w.Close())
	until(t, "the file is closed", func() bool { return r.Modify(branch("rw", union.RO, true)) == nil })
	if err := os.WriteFile(r.path("more"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("no branch is writable: %v", err)
	}
	r.want("mnt/new", "new")
	must(t, r.Modify(branch("rw", union.RW, false)))
	must(t, os.WriteFile(r.path("more"), []byte("more"), 0o644))
	r.want("rw/more", "more")
	for what, err := range map[string]error{
		"it is a branch of this union already": r.Add(0, branch("rw", union.RO, false)),
		"there is no index 9":                  r.Add(9, branch("low", union.RO, false)),
		"lies inside branch":                   r.Add(0, branch("base/d", union.RO, false)),
		"it is no branch of this union":        r.Delete(filepath.Join(dir, "low")),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
}

// TestUsersCannotKeepPrivileges: a file that a user is writing gets none, or loses
// them with the next write where the kernel does not write itself (before 6.9).
func TestUsersCannotKeepPrivileges(t *testing.T) {
	dir := tempDir(t)
	r := mountUnion(t, dir, "rw=rw", "udba=none")
	must(t, os.WriteFile(r.path("f"), []byte("#!/bin/sh\n"), 0o777))
	must(t, os.Chmod(r.path("f"), 0o777))
	cmd := exec.Command("sh", "-c", "exec 5>>f; echo open; read x; echo more >&5")
	cmd.Dir = r.mnt
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = out.Read(make([]byte, 5))
	must(t, err)
	if err := os.Chmod(r.path("f"), 0o777|os.ModeSetuid); err != nil && !errors.Is(err, syscall.ETXTBSY) {
		t.Errorf("set-user-id while a user writes: %v", err)
	}
	must(t, in.Close())
	cmd.Wait()
	if st := stat(t, r.path("f")); st.Mode&syscall.S_ISUID != 0 {
		t.Errorf("a user has written, mode %o", st.Mode)
	}
	until(t, "the file is closed", func() bool { return os.Chmod(r.path("f"), 0o777|os.ModeSetuid) == nil })
	must(t, r.as(1000, "echo x >>f"))
	if st := stat(t, r.path("f")); st.Mode&syscall.S_ISUID != 0 {
		t.Errorf("mode %o", st.Mode)
	}
	// Those who own a file, and root, write and set it as programs are installed.
	must(t, os.Chmod(r.mnt, 0o777))
	must(t, r.as(1000, "exec 5>own; echo x >&5; chmod 4755 own"))
	must(t, r.as(0, "exec 5>roots; echo x >&5; chmod 4755 roots"))
}

// TestRefusedMounts: the error names the branch or the mount point.
func TestRefusedMounts(t *testing.T) {
	dir := tempDir(t)
	for _, p := range []string{"a/in", "b", "mnt"} {
		must(t, os.MkdirAll(filepath.Join(dir, p), 0o755))
	}
	must(t, os.Symlink("a/in", filepath.Join(dir, "link")))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "same"), 0o755))
	must(t, syscall.Mount(filepath.Join(dir, "b"), filepath.Join(dir, "same"), "", syscall.MS_BIND, ""))
	must(t, os.Mkdir(filepath.Join(dir, "sealed"), 0o755))
	must(t, syscall.Mount("tmpfs", filepath.Join(dir, "sealed"), "tmpfs", syscall.MS_RDONLY, ""))
	must(t, os.Mkdir(filepath.Join(dir, "dev"), 0o755))
	must(t, syscall.Mount("devtmpfs", filepath.Join(dir, "dev"), "devtmpfs", 0, ""))
	self, err := os.Executable()
	must(t, err)
	for branches, want := range map[string]string{
		"a=rw:none=ro": "branch DIR/none: ",
		"a=rw:file=ro": "branch DIR/file: it is not a directory",
		"a=rw:link=ro": "branch DIR/link is branch DIR/a/in: it lies inside branch DIR/a",
		"a=rw:dev=ro":  "branch DIR/dev: it is of a file system of the kernel (devtmpfs)",
		"b=rw:same=ro": "branch DIR/same: it is the same directory as branch DIR/b",
		"sealed=rw":    "branch DIR/sealed: prepare it: .wh..wh.orph: read-only file system",
	} {
		var list []string
		for b := range strings.SplitSeq(branches, ":") {
			list = append(list, filepath.Join(dir, b))
		}
		c, err := union.ParseConfig("br:" + strings.Join(list, ":"))
		must(t, err)
		err = Mount(self, c, filepath.Join(dir, "mnt"))
		if err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(want, "DIR", dir)) {
			t.Errorf("%s: %v, want %s", branches, err, want)
		}
	}
	c, err := union.ParseConfig("br:" + dir + "/a")
	must(t, err)
	if err := Mount(self, c, filepath.Join(dir, "nowhere")); err == nil || !strings.Contains(err.Error(), "mount point open "+dir+"/nowhere") {
		t.Error(err)
	}
	if left, err := os.ReadDir(runDir); len(left) > 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
	if _, err := Find(dir); err == nil || !strings.Contains(err.Error(), "not in a union mount") {
		t.Error(err)
	}
}

// TestWritableByOne: two unions do not write to the same branch, also when the server of
// the first was killed, and one does not become a branch of itself.
func TestWritableByOne(t *testing.T) {
	dir := tempDir(t)
	r := mountUnion(t, dir, "rw=rw:more=rw:base=ro", "udba=none")
	must(t, syscall.Kill(r.server(), syscall.SIGKILL))
	r.write("mnt/f", "f")
	other := mountUnion(t, tempDir(t), "rw=rw", "udba=none")
	b := func(name string, p union.Perm) union.Branch {
		return union.Branch{Dir: filepath.Join(dir, name), Perm: p}
	}
	for what, err := range map[string]error{
		"rw: another union mount or container writes to it":   other.Add(0, b("rw", union.RW)),
		"more: another union mount or container writes to it": other.Add(-1, b("more", union.RW)),
		"mnt: it lies in this union itself":                   r.Add(-1, b("mnt", union.RO)),
	} {
		if err == nil || !strings.Contains(err.Error(), "branch "+dir+"/"+what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
	must(t, other.Add(-1, b("rw", union.RO)))
	must(t, r.Modify(union.Branch{Dir: filepath.Join(dir, "more"), Perm: union.RW, NoLWH: true}))
	if err := other.Add(-1, b("more", union.RW)); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("modified: %v", err)
	}
	must(t, r.Modify(b("more", union.RO)))
	must(t, other.Add(-1, b("more", union.RW)))
	r.unmount()
	must(t, other.Modify(b("rw", union.RW)))
}

// TestManyAtOnce: many workers do operations in the same few directories; then
// all is consistent, and the read-only branch as before.
func TestManyAtOnce(t *testing.T) {
	for _, options := range []string{"udba=none", "udba=reval"} {
		t.Run(options, func(t *testing.T) {
			dir := tempDir(t)
			c := rand.New(rand.NewPCG(9, 9))
			m := model.RandomOf(c, "wrr", true)
			var list []string
			for i, b := range m.Branches {
				must(t, b.Write(filepath.Join(dir, fmt.Sprint("b", i))))
				list = append(list, fmt.Sprint("b", i, "=", map[bool]string{true: "rw", false: "ro"}[b.RW]))
			}
			before := merkle(t, dir+"/b1") + merkle(t, dir+"/b2")
			r := mountUnion(t, dir, strings.Join(list, ":"), options)
			var workers sync.WaitGroup
			for w := range 8 {
				workers.Go(func() {
					c := rand.New(rand.NewPCG(uint64(w), 10))
					for range 600 {
						op := model.RandomOperation(c)
						op.Do(paths(r.mnt)) // refusals are as they come
					}
				})
			}
			workers.Wait()
			seen, err := model.ReadTree(r.mnt)
			must(t, err)
			r.unmount()
			if merkle(t, dir+"/b1")+merkle(t, dir+"/b2") != before {
				t.Error("a read-only branch has changed")
			}
			again := mountUnion(t, dir, strings.Join(list, ":"), options)
			want, err := model.ReadTree(again.mnt)
			must(t, err)
			if diff := model.Compare(want, seen); diff != "" {
				t.Errorf("before unmounting: %s", diff)
			}
			must(t, filepath.WalkDir(dir+"/b0/"+union.WorkDir, func(p string, e fs.DirEntry, err error) error {
				if err == nil && filepath.Base(p) != union.WorkDir {
					t.Errorf("left in the work directory: %s", p)
				}
				return err
			}))
		})
	}
}
