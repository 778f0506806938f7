//go:build root && failpoint

package crash

import (
	"os"
	"slices"
	"strings"

	"github.com/tare-engine/tare/test/fixture"
)

// tmpfsVolume makes a volume whose files are mounted while a container runs.
func tmpfsVolume(b *box) {
	b.must("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "vol")
}

var volumeOperations = []operation{
	{"volume create", nil,
		func(b *box) error { return b.try("volume", "create", "--label", "a=b", "vol") },
		(*box).usable},
	{"volume create with a size", nil,
		func(b *box) error { return b.try("volume", "create", "-o", "size=2m", "vol") },
		(*box).usable},
	{"volume rm", func(b *box) {
		b.must("volume", "create", "vol")
		b.must("run", "--rm", "-v", "vol:/d", "--rootfs", b.rootfs(), "sh", "-c", "echo a | "+syncedTo("/d/f"))
	},
		func(b *box) error { return b.try("volume", "rm", "vol") },
		func(b *box, ack bool) {
			_, absent := b.tare("volume", "inspect", "vol")
			if ack && absent == nil {
				b.t.Error("the removal of a volume was acknowledged, and it is there")
			}
			if absent == nil {
				if out, err := b.tare("run", "--rm", "-v", "vol:/d", "--rootfs", b.rootfs(), "cat", "/d/f"); err != nil || out != "a" {
					b.t.Errorf("half a volume is there: %q, %v", out, err)
				}
			}
			b.must("volume", "rm", "-f", "vol")
		}},
	{"create with volumes", loadHello,
		func(b *box) error {
			return b.try("create", "--name", "box", "-v", "vol:/etc", "-v", "/data2", fixture.Image, "ls", "/etc")
		},
		func(b *box, ack bool) {
			b.present("box", ack)
			b.volumesOfBox(2)
		}},
	{"create with a volume that is there", func(b *box) { loadHello(b); b.must("volume", "create", "vol") },
		func(b *box) error {
			return b.try("create", "--name", "box", "-v", "vol:/etc", fixture.Image, "ls", "/etc")
		},
		func(b *box, ack bool) {
			b.present("box", ack)
			if files, err := os.ReadDir(b.path("data/volumes/vol/_data")); err != nil || len(files) > 1 || len(files) == 0 && ack {
				b.t.Errorf("the volume has %v (acknowledged: %v): %v", files, ack, err)
			}
			b.tare("rm", "box")
			b.must("volume", "rm", "vol")
		}},
	{"rm -v", func(b *box) {
		b.must("create", "--name", "box", "-v", "vol:/d", "-v", "/e", "--rootfs", b.rootfs(), "true")
	},
		func(b *box) error { return b.try("rm", "-v", "box") },
		func(b *box, ack bool) {
			if ack {
				b.absent("box")
			}
			b.volumesOfBox(2)
		}},
	{"rm of a container with volumes", func(b *box) {
		b.must("create", "--name", "box", "-v", "vol:/d", "-v", "/e", "--rootfs", b.rootfs(), "true")
	},
		func(b *box) error { return b.try("rm", "box") },
		func(b *box, ack bool) {
			if ack {
				b.absent("box")
			}
			if list := b.volumes(); len(list) != 2 {
				b.t.Errorf("a container was removed without its volumes, and %v are left", list)
			}
			b.tare("rm", "box")
			b.must("volume", "prune", "-af")
		}},
	{"run --rm with volumes", nil,
		func(b *box) error {
			return b.try("run", "--rm", "-v", "vol:/d", "-v", "/e", "--rootfs", b.rootfs(), "true")
		},
		func(b *box, ack bool) {
			b.soon(func() bool { return len(b.ids()) == 0 })
			if list := b.volumes(); len(list) > 1 || len(list) == 1 && list[0] != "vol" || ack && len(list) == 0 {
				b.t.Errorf("after a run with --rm (acknowledged: %v): volumes %v", ack, list)
			}
			b.must("volume", "rm", "-f", "vol")
		}},
	{"start with a volume that is mounted", func(b *box) {
		tmpfsVolume(b)
		b.must("create", "--name", "box", "-v", "vol:/d", "--rootfs", b.rootfs(), "sleep", "1000")
	},
		func(b *box) error { return b.try("start", "box") },
		func(b *box, ack bool) {
			b.present("box", true)
			running := b.state("box") == "running"
			if ack && !b.rebooted && !running {
				b.t.Errorf("a start was acknowledged, and the container is %q", b.state("box"))
			}
			b.mountedVolume()
		}},
	{"stop with a volume that is mounted", func(b *box) {
		tmpfsVolume(b)
		b.must("run", "-d", "--name", "box", "-v", "vol:/d", "--rootfs", b.rootfs(), "sleep", "1000")
	},
		func(b *box) error { return b.try("stop", "-t", "0", "box") },
		func(b *box, ack bool) {
			if state := b.state("box"); ack && state == "running" {
				b.t.Error("a stop was acknowledged, and the container runs")
			}
			b.mountedVolume()
		}},
}

// syncedTo is the command line of a program that writes its input to a file, and has
// it on disk, but no other file of the host.
func syncedTo(file string) string { return "/bin/busybox dd conv=fsync of=" + file }

// filledVolume makes a volume with a file, and a snapshot of it as it was before.
func filledVolume(b *box) {
	b.must("run", "--rm", "-v", "vol:/d", "--rootfs", b.rootfs(), "sh", "-c", "echo old >/d/f")
	b.must("volume", "snapshot", "vol", "before")
	b.must("run", "--rm", "-v", "vol:/d", "--rootfs", b.rootfs(), "sh", "-c", "echo new | "+syncedTo("/d/f"))
}

// fileOfVolume is what the file in a volume says; "": there is no such volume.
func (b *box) fileOfVolume(name string) string {
	b.t.Helper()
	if _, err := b.tare("volume", "inspect", name); err != nil {
		return ""
	}
	return b.must("run", "--rm", "-v", name+":/d", "--rootfs", b.rootfs(), "cat", "/d/f")
}

var volumeCopyOperations = []operation{
	{"volume clone", filledVolume,
		func(b *box) error { return b.try("volume", "clone", "vol", "copy") },
		func(b *box, ack bool) {
			if got := b.fileOfVolume("copy"); got != "new" && (ack || got != "") {
				b.t.Errorf("the clone (acknowledged: %v) has %q", ack, got)
			}
			if got := b.fileOfVolume("vol"); got != "new" {
				b.t.Errorf("the source has %q", got)
			}
			b.must("volume", "rm", "-f", "vol", "copy")
		}},
	{"volume rename", filledVolume,
		func(b *box) error { return b.try("volume", "rename", "vol", "other") },
		func(b *box, ack bool) {
			was, is := b.fileOfVolume("vol"), b.fileOfVolume("other")
			if was+is != "new" || ack && is == "" {
				b.t.Errorf("the rename (acknowledged: %v): the old name has %q, the new one %q", ack, was, is)
			}
			b.must("volume", "rm", "-f", "vol", "other")
		}},
	{"volume snapshot", filledVolume,
		func(b *box) error { return b.try("volume", "snapshot", "vol", "now") },
		func(b *box, ack bool) {
			list := strings.Fields(b.must("volume", "snapshot", "-l", "--format", "{{.Name}}", "vol"))
			if has := slices.Contains(list, "now"); ack && !has {
				b.t.Errorf("a snapshot was acknowledged, and there are %v", list)
			} else if has {
				b.must("run", "--rm", "-v", "vol:/d", "--rootfs", b.rootfs(), "sh", "-c", "echo later >/d/f")
				b.must("volume", "rollback", "vol", "now")
			}
			if got := b.fileOfVolume("vol"); got != "new" {
				b.t.Errorf("the volume has %q", got)
			}
			b.must("volume", "rm", "vol")
		}},
	{"volume rollback", filledVolume,
		func(b *box) error { return b.try("volume", "rollback", "vol", "before") },
		func(b *box, ack bool) {
			if got := b.fileOfVolume("vol"); got != "old" && (ack || got != "new") {
				b.t.Errorf("after a rollback (acknowledged: %v) the volume has %q", ack, got)
			}
			b.must("volume", "rollback", "vol", "before")
			b.must("volume", "rm", "vol")
		}},
	{"volume snapshot --rm", filledVolume,
		func(b *box) error { return b.try("volume", "snapshot", "--rm", "vol", "before") },
		func(b *box, ack bool) {
			if err := b.try("volume", "rollback", "vol", "before"); ack && err == nil {
				b.t.Error("the removal of a snapshot was acknowledged, and it is there")
			} else if got := b.fileOfVolume("vol"); err == nil && got != "old" || err != nil && got != "new" {
				b.t.Errorf("the volume has %q: %v", got, err)
			}
			b.must("volume", "rm", "vol")
		}},
	{"volume import", func(b *box) { filledVolume(b); b.must("volume", "export", "-o", b.path("files.tar"), "vol") },
		func(b *box) error { return b.try("volume", "import", "copy", b.path("files.tar")) },
		func(b *box, ack bool) {
			if got := b.fileOfVolume("copy"); got != "new" && (ack || got != "") {
				b.t.Errorf("the import (acknowledged: %v) has %q", ack, got)
			}
			b.must("volume", "rm", "-f", "vol", "copy")
		}},
	{"volume import --replace", func(b *box) {
		filledVolume(b)
		b.must("volume", "export", "-o", b.path("files.tar"), "vol")
		b.must("volume", "rollback", "vol", "before")
	},
		func(b *box) error { return b.try("volume", "import", "--replace", "vol", b.path("files.tar")) },
		func(b *box, ack bool) {
			if got := b.fileOfVolume("vol"); got != "new" && (ack || got != "old") {
				b.t.Errorf("after an import (acknowledged: %v) the volume has %q", ack, got)
			}
			b.must("volume", "rm", "vol")
		}},
}

// sizedVolumeOperations are those on volumes that are file systems in files.
var sizedVolumeOperations = append(withSize(volumeCopyOperations),
	operation{"write to a volume with a size", func(b *box) {
		sizedVolume(b)
		filledVolume(b)
		b.must("run", "-d", "--name", "box", "-v", "vol:/d", "--rootfs", b.rootfs(), "sleep", "1000")
	},
		func(b *box) error {
			return b.try("exec", "box", "sh", "-ec", "echo latest | "+syncedTo("/d/g")+"; /bin/busybox mv /d/g /d/f; "+syncedTo("/d/h")+" </dev/null")
		},
		func(b *box, ack bool) {
			if got := b.fileOfVolume("vol"); got != "latest" && (ack || got != "new") {
				b.t.Errorf("after a write (acknowledged: %v) the volume has %q", ack, got)
			}
			b.must("rm", "-f", "box")
			b.must("volume", "rm", "vol")
		}},
)

func sizedVolume(b *box) { b.must("volume", "create", "-o", "size=4m", "vol") }

// withSize are operations whose volume has a size, of which none replaces all files.
func withSize(list []operation) []operation {
	var out []operation
	for _, op := range list {
		if op.name == "volume import --replace" {
			continue
		}
		prepare := op.prepare
		op.name += " with a size"
		op.prepare = func(b *box) { sizedVolume(b); prepare(b) }
		out = append(out, op)
	}
	return out
}

func (b *box) volumes() []string {
	return strings.Fields(b.must("volume", "ls", "-q", "-f", "driver=local"))
}

// usable says that the volume "vol" is there if that was acknowledged, and that it
// can be used, or made, if not.
func (b *box) usable(acknowledged bool) {
	b.t.Helper()
	if _, err := b.tare("volume", "inspect", "vol"); acknowledged && err != nil {
		b.t.Errorf("a volume was acknowledged, and is not there: %v", err)
	}
	if out, err := b.tare("run", "--rm", "-v", "vol:/d", "--rootfs", b.rootfs(), "sh", "-c", "echo a >/d/f; cat /d/f"); err != nil || out != "a" {
		b.t.Errorf("a volume cannot be used: %q, %v", out, err)
	}
	b.must("volume", "rm", "vol")
}

// volumesOfBox says that volumes are there if, and only if, the container "box" is, but
// for "vol", which stays; it removes all.
func (b *box) volumesOfBox(n int) {
	b.t.Helper()
	list := b.volumes()
	if b.state("box") == "" {
		if len(list) > 1 || len(list) == 1 && list[0] != "vol" {
			b.t.Errorf("there is no container, and there are volumes %v", list)
		}
		b.must("volume", "rm", "-f", "vol")
		return
	}
	if len(list) != n || !slices.Contains(list, "vol") {
		b.t.Errorf("the container has volumes %v, want %d", list, n)
	}
	if _, err := b.tare("volume", "rm", "vol"); err == nil {
		b.t.Error("a volume of a container could be removed")
	}
	b.must("start", "-a", "box")
	b.must("rm", "-v", "box")
	if list := b.volumes(); len(list) != 1 {
		b.t.Errorf("rm -v has left volumes %v", list)
	}
	b.must("volume", "rm", "vol")
}

// mountedVolume says that "vol" is mounted once if its container runs, else not at
// all; it removes both.
func (b *box) mountedVolume() {
	b.t.Helper()
	var running bool
	var n int
	b.soon(func() bool { // a run that ends gives its volumes back before its end is recorded
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			b.t.Fatal(err)
		}
		running, n = b.state("box") == "running", strings.Count(string(mounts), b.path("data/volumes/vol/_data")+" ")
		return running == (n == 1) && n <= 1
	})
	if running != (n == 1) || n > 1 {
		b.t.Errorf("running: %v, and the volume is mounted %d times", running, n)
	}
	b.must("rm", "-f", "box")
	b.must("volume", "rm", "vol")
}
