//go:build root

package gitbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain is the program that the script calls, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 4 && os.Args[1] == "git" {
		if err := Run(Dirs{os.Args[2], os.Args[3], os.Args[4]}, os.Args[5:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(128)
		}
		return
	}
	os.Exit(m.Run())
}

// box installs a git and returns how it is called.
func box(t *testing.T) (d Dirs, call func(args ...string) (string, error)) {
	t.Helper()
	dir := t.TempDir()
	d = Dirs{Bin: filepath.Join(dir, "it's", "bin"), Cache: filepath.Join(dir, "cache"), Tmp: filepath.Join(dir, "tmp")}
	for _, p := range []string{d.Cache, d.Tmp} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := Install(d, self); err != nil {
		t.Fatal(err)
	}
	return d, func(args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(d.Bin, "git"), args...)
		cmd.Env = []string{"PATH=" + d.Bin + ":" + os.Getenv("PATH"), "HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// TestGitWorksInItsDirectories: what it makes there is the engine's.
func TestGitWorksInItsDirectories(t *testing.T) {
	d, call := box(t)
	repo, tree := filepath.Join(d.Cache, "repo"), filepath.Join(d.Cache, "tree")
	for _, p := range []string{repo, tree} {
		if err := os.Mkdir(p, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := call("--git-dir", repo, "-c", "init.defaultBranch=main", "init", "--bare"); err != nil {
		t.Fatal(err, out)
	}
	if err := os.WriteFile(filepath.Join(tree, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(args ...string) []string {
		return append([]string{"--work-tree", tree, "--git-dir", repo, "-c", "user.name=n", "-c", "user.email=e"}, args...)
	}
	for _, args := range [][]string{at("add", "-A"), at("commit", "-qm", "x"), at("rm", "-q", "f"), at("checkout", "HEAD", "--", ".")} {
		if out, err := call(args...); err != nil {
			t.Fatal(args, err, out)
		}
	}
	for _, p := range []string{filepath.Join(tree, "f"), filepath.Join(repo, "HEAD"), filepath.Join(repo, "objects")} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 || st.Gid != 0 {
			t.Errorf("%s is of %d:%d", p, st.Uid, st.Gid)
		}
	}
	// A checkout with its repository in it is fetched from the other one.
	second := filepath.Join(d.Cache, "second")
	if err := os.Mkdir(second, 0o700); err != nil {
		t.Fatal(err)
	}
	of := []string{"--work-tree", second, "--git-dir", filepath.Join(second, ".git")}
	for _, args := range [][]string{{"init", "-q"}, {"remote", "add", "origin", "file://" + repo}, {"fetch", "-q", "-u", "--depth=1", "--", "origin", "main:main"}, {"checkout", "-q", "main"}} {
		if out, err := call(append(of, args...)...); err != nil {
			t.Fatal(args, err, out)
		}
	}
	if b, err := os.ReadFile(filepath.Join(second, "f")); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestGitHasNothingElse: neither rights nor files of the host or of other builds.
func TestGitHasNothingElse(t *testing.T) {
	d, call := box(t)
	other := filepath.Join(d.Cache, "other")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "secret"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("git", "init", "-q", "--bare", filepath.Join(other, "repo")).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	in := func(script string) string {
		out, err := call("-c", "alias.x=!"+script, "x")
		if err != nil {
			return strings.TrimSpace(out) + " (" + err.Error() + ")"
		}
		return strings.TrimSpace(out)
	}
	if got := in("id -u; id -g; id -G"); got != fmt.Sprintf("%d\n%d\n%d", id, id, id) {
		t.Errorf("ids: %q", got)
	}
	if got := in("ls /; ls /etc /dev"); strings.Contains(got, "root") || strings.Contains(got, "home") || strings.Contains(got, "shadow") || strings.Contains(got, "sda") {
		t.Errorf("files: %q", got)
	}
	for _, p := range []string{"/root", "/etc/shadow", "/etc/ssl/private", "/proc/1", other, d.Tmp} {
		if got := in("test -e " + p + " && echo there || echo none"); got != "none" {
			t.Errorf("%s: %q", p, got)
		}
	}
	if got := in("touch /usr/x /x /etc/x 2>/dev/null; kill -0 1 2>/dev/null && echo kills || echo none"); got != "none" {
		t.Errorf("rights: %q", got)
	}
	if out, err := call("ls-remote", "file://"+other+"/repo"); err == nil {
		t.Errorf("the repository of another build is read: %s", out)
	}
	if out, err := call("ls-remote", "ext::echo x"); err == nil || !strings.Contains(out, "transport 'ext' not allowed") {
		t.Errorf("ext: %s, %v", out, err)
	}
	if out, err := call("--git-dir", "/root", "status"); err == nil {
		t.Errorf("a directory elsewhere is given: %s", out)
	}
}

// TestNoGit says what to do, to who wants more than to know whether there is one.
func TestNoGit(t *testing.T) {
	d, _ := box(t)
	t.Setenv("PATH", d.Bin)
	if err := Run(d, []string{"version"}); err != nil {
		t.Error(err)
	}
	if err := Run(d, []string{"ls-remote", "x"}); err == nil || !strings.Contains(err.Error(), "git is not installed on the engine's host") {
		t.Error(err)
	}
}
