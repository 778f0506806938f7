//go:build root

package script

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// smallDisk mounts an ext4 of a size as truncate has it at dir.
func smallDisk(t *testing.T, dir, size string, options ...string) {
	t.Helper()
	diskOf(t, dir, size, append([]string{"mkfs.ext4", "-q"}, options...)...)
}

// diskOf mounts at dir a file system that mkfs makes in a file beside it.
func diskOf(t *testing.T, dir, size string, mkfs ...string) {
	t.Helper()
	img := dir + ".img"
	for _, c := range [][]string{
		{"truncate", "-s", size, img},
		append(mkfs, img),
		{"mkdir", dir},
		{"mount", "-o", "loop", img, dir},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		// The keeper ends soon after the engine and holds the file system until then.
		for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			out, err := exec.Command("umount", dir).CombinedOutput()
			if err == nil || time.Now().After(end) {
				if err != nil {
					t.Errorf("%v: %s", err, out)
				}
				return
			}
		}
	})
}

// fillBytes and fillInodes leave nothing in dir; what they return gives it back.
func fillBytes(t *testing.T, dir string) (free func()) {
	for _, size := range []int{1 << 20, 1 << 10} {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint("filler-", size)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
	}
	return func() { os.Remove(dir + "/filler-1048576"); os.Remove(dir + "/filler-1024") }
}

func fillInodes(t *testing.T, dir string) (free func()) {
	into := dir + "/filler"
	if err := os.Mkdir(into, 0700); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if err := os.WriteFile(filepath.Join(into, fmt.Sprint(i)), nil, 0600); err != nil {
			return func() { os.RemoveAll(into) }
		}
	}
}

// TestFullDisk: what needs space is refused and leaves nothing; what exists
// goes on, and can be stopped, renamed and removed, by the next engine too.
func TestFullDisk(t *testing.T) {
	ext4 := func(options ...string) []string { return append([]string{"mkfs.ext4", "-q"}, options...) }
	t.Run("bytes", func(t *testing.T) { testFullDisk(t, fillBytes, "overlay", "64M", ext4()...) })
	t.Run("inodes", func(t *testing.T) { testFullDisk(t, fillInodes, "overlay", "64M", ext4("-N", "1000")...) })
	t.Run("vfs", func(t *testing.T) { testFullDisk(t, fillBytes, "vfs", "96M", ext4()...) })
	t.Run("btrfs", func(t *testing.T) { testFullDisk(t, fillBytes, "btrfs", "256M", "mkfs.btrfs", "-q") })
	t.Run("union", func(t *testing.T) { testFullDisk(t, fillBytes, "union", "64M", ext4()...) })
}

// onSmallDisk starts an engine with its data on a disk of its own.
func onSmallDisk(t *testing.T, size string, mkfs ...string) (e *engine, data string) {
	t.Helper()
	return onDiskOf(t, "overlay", size, append([]string{"mkfs.ext4", "-q"}, mkfs...)...)
}

// onDiskOf is onSmallDisk with a storage driver and any file system.
func onDiskOf(t *testing.T, driver, size string, mkfs ...string) (e *engine, data string) {
	t.Helper()
	dir, bin := workdir(t), programs(t)
	data = dir + "/data"
	diskOf(t, data, size, mkfs...)
	args := []string{"--data-root", data, "--exec-root", dir + "/run"}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(bin, "tared"), append(args, "--uninstall")...).CombinedOutput(); err != nil {
			t.Errorf("uninstall: %v: %s", err, out)
		}
	})
	e = &engine{socket: dir + "/engine.sock", bin: bin, docker: filepath.Join(bin, "tare")}
	return start(t, e, dir, filepath.Join(bin, "tared"), append(args, "--log-level", "warn", "--storage-driver", driver)...), data
}

func testFullDisk(t *testing.T, fill func(*testing.T, string) func(), driver, size string, mkfs ...string) {
	e, data := onDiskOf(t, driver, size, mkfs...)
	e.load(t, "busybox.tar")
	e.output(t, "tag", "busybox", "other")
	for _, name := range []string{"one", "two"} {
		e.output(t, "create", "--name", name, "busybox", "true")
	}
	e.output(t, "run", "-d", "--name", "loud", "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do echo line; sleep 0.05; done")
	e.output(t, "network", "create", "net")
	e.output(t, "run", "--rm", "-v", "vol:/d", "busybox", "sh", "-c", "echo a >/d/f")
	d := e.forDisk(t, data)
	picture := func() string {
		return e.output(t, "ps", "-a", "--format", "{{.Names}}") + "\n" + e.output(t, "images", "-a") + "\n" + e.output(t, "network", "ls", "-q") +
			"\n" + e.output(t, "volume", "ls", "-q") + "\n" + e.output(t, "volume", "snapshot", "-l", "vol")
	}
	before := picture()

	if err := waitEmpty(data + "/trash"); err != nil { // it would give room later
		t.Fatal(err)
	}
	free := fill(t, data)
	d.refuses(t)
	d.mayHaveRoom(t)
	if after := picture(); after != before {
		t.Errorf("after what was refused %q, before %q", after, before)
	}
	for _, c := range [][]string{
		{"ps"}, {"inspect", "loud"}, {"top", "loud"}, {"stats", "--no-stream", "loud"}, {"pause", "loud"}, {"unpause", "loud"}, {"update", "--memory", "64m", "--memory-swap", "-1", "loud"},
		{"diff", "loud"}, {"ps", "-s"}, {"kill", "-s", "WINCH", "loud"}, {"system", "df"},
	} {
		if out, err := e.try(c...); err != nil {
			t.Errorf("%q: %v: %s", c, err, out)
		}
	}
	if got := e.output(t, "exec", "loud", "echo", "in"); got != "in" {
		t.Errorf("exec: %q", got)
	}
	if got := e.output(t, "logs", "--tail", "1", "loud"); !strings.HasPrefix(got, "line") { // more may come meanwhile
		t.Errorf("logs: %q", got)
	}
	e.output(t, "rename", "one", "uno")
	e.output(t, "volume", "rename", "vol", "other")
	e.output(t, "stop", "loud")
	e.again(t)
	if got := e.output(t, "inspect", "-f", "{{.State.ExitCode}}", "loud"); got != "3" {
		t.Errorf("exit code %q", got)
	}
	e.output(t, "rm", "loud", "uno")
	e.output(t, "network", "rm", "net")
	e.output(t, "volume", "rm", "other")
	e.output(t, "rmi", "other")
	e.output(t, "container", "prune", "-f")
	e.output(t, "image", "prune", "-af")
	if left := e.output(t, "ps", "-aq") + e.output(t, "images", "-q"); left != "" {
		t.Errorf("left: %q", left)
	}
	free()
	e.again(t)
	e.load(t, "busybox.tar")
	if got := e.output(t, "run", "--rm", "busybox", "echo", "fine"); got != "fine" {
		t.Errorf("run: %q", got)
	}
	e.output(t, "build", "-q", "-t", "built", d.tree)
	for _, empty := range []string{"containers", "trash", "spool", "content/staging", "layers/" + driver + "/staging"} {
		if err := waitEmpty(filepath.Join(data, empty)); err != nil {
			t.Error(err)
		}
	}
	if list, err := os.ReadDir(data + "/reserve"); err != nil || len(list) == 0 {
		t.Errorf("the reserve was not filled again: %v", err)
	}
}

// onFull is what operations on a full disk work with, which lies on another one.
type onFull struct {
	*engine
	data  string // is full
	files string // an archive of some megabytes
	image string // in a registry
	tree  string // a directory of 4 MB in 64 files, and what builds an image of it
}

// forDisk makes it, while there is room.
func (e *engine) forDisk(t *testing.T, data string) *onFull {
	t.Helper()
	dir := filepath.Dir(data)
	d := &onFull{engine: e, data: data, files: dir + "/files.tar", tree: dir + "/tree"}
	e.output(t, "export", "-o", d.files, "two")
	r := registrytest.New(t, registrytest.Options{})
	r.Put("app", "1", registrytest.Image{Size: 3 << 20, Compression: []string{"none"}})
	d.image = r.Host + "/app:1"
	if err := os.Mkdir(d.tree, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.tree+"/Dockerfile", []byte("FROM busybox\nCOPY . /all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{})
	for i := range 64 {
		content := make([]byte, 64<<10)
		random.Read(content)
		if err := os.WriteFile(filepath.Join(d.tree, fmt.Sprint(i)), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// refuses: what needs megabytes, or a directory for a container, says so and where.
func (d *onFull) refuses(t *testing.T) {
	full := "no space left on device (the file system mounted on " + d.data + " has "
	for _, c := range []struct {
		says string
		args []string
	}{
		{full, []string{"load", "-i", filepath.Join(d.images, "busybox.tar")}},
		{full, []string{"create", "busybox"}},
		{full, []string{"run", "--rm", "busybox", "true"}},
		{full, []string{"start", "one"}},
		{full, []string{"import", d.files, "made"}},
		{full, []string{"pull", d.image}},
		{full, []string{"cp", d.tree, "loud:/"}},
		{full, []string{"cp", d.tree, "two:/"}},
		{full, []string{"volume", "import", "copy", d.files}},
		{full, []string{"volume", "import", "--replace", "vol", d.files}},
		{"no space left on device", []string{"build", "-t", "made", d.tree}},
	} {
		out, err := d.try(c.args...)
		if err == nil || !strings.Contains(out, c.says) || !strings.Contains(out, d.data) {
			t.Errorf("%q: %v: %s", c.args, err, out)
		}
	}
}

// mayHaveRoom: these find room in what is kept for changes of records, or share data
// with what is there, or need one inode; else they are refused.
func (d *onFull) mayHaveRoom(t *testing.T) {
	file := d.data + "/out.tar"
	out, err := d.try("export", "-o", file, "two")
	if err != nil && !(strings.Contains(out, "no space left on device") && strings.Contains(out, d.data)) {
		t.Errorf("export: %v: %s", err, out)
	}
	if left, _ := filepath.Glob(d.data + "/*out.tar*"); err != nil && len(left) > 0 {
		t.Errorf("a failed export leaves %q", left)
	}
	os.Remove(file)
	for _, c := range []struct{ do, undo string }{
		{"commit loud made", "rmi made"},
		{"network create more", "network rm more"},
		{"volume create more", "volume rm more"},
		{"volume create -o size=4m more", "volume rm more"},
		{"volume clone vol copy", "volume rm copy"},
		{"volume snapshot vol now", "volume snapshot --rm vol now"},
	} {
		out, err := d.try(strings.Fields(c.do)...)
		if err == nil {
			d.output(t, strings.Fields(c.undo)...)
		} else if !strings.Contains(out, "no space left on device (the file system mounted on "+d.data+" has ") {
			t.Errorf("%s: %v: %s", c.do, err, out)
		}
	}
}

// again ends the engine and starts it anew.
func (e *engine) again(t *testing.T) {
	t.Helper()
	c := exec.Command(e.cmd.Path, e.cmd.Args[1:]...)
	c.Stdout, c.Stderr = e.cmd.Stdout, e.cmd.Stderr
	e.cmd.Process.Signal(os.Interrupt)
	if err := e.cmd.Wait(); err != nil {
		t.Errorf("the engine: %v", err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	e.cmd = c
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if exec.Command(e.docker, "-H", "unix://"+e.socket, "version").Run() == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the engine does not come back")
		}
	}
}

func waitEmpty(dir string) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		list, err := os.ReadDir(dir)
		if err != nil || len(list) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s still holds %v", dir, list)
		}
	}
}
