//go:build root

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// exampleOf is the first example of shell in a section of docs/union.md.
func exampleOf(t *testing.T, section string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/union.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), section+"\n")
	_, rest, begins := strings.Cut(rest, "```sh\n")
	example, _, ends := strings.Cut(rest, "```\n")
	if !found || !begins || !ends {
		t.Fatalf("docs/union.md has no example in %q", section)
	}
	return example
}

// TestExampleOfAufs runs what docs/union.md shows of a tree of Docker's driver
// aufs, on one that is made in its form.
func TestExampleOfAufs(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{
		"image/aufs/layerdb/mounts/c0ffee/mount-id": "top",
		"aufs/layers/top":                "top-init\nbase\n",
		"aufs/diff/top/.wh.gone":         "",
		"aufs/diff/top/.wh..wh.plnk/5.6": "",
		"aufs/diff/top/.wh..wh.aufs":     "",
		"aufs/diff/top/new":              "1",
		"aufs/diff/top-init/.dockerenv":  "",
		"aufs/diff/base/gone":            "2",
		"aufs/diff/base/stays":           "3",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := treeOf(t, dir)
	example := strings.NewReplacer("/var/lib/docker", dir, "/mnt/old", t.TempDir()).Replace(exampleOf(t, "## Trees of Docker's driver aufs"))
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "bash", "-eo", "pipefail", "-c", example)
	cmd.Env = append(os.Environ(), "PATH="+programs(t)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if shown := string(out); !strings.Contains(shown, "new") || !strings.Contains(shown, "stays") || strings.Contains(shown, "gone") {
		t.Errorf("it shows\n%s", out)
	}
	if after := treeOf(t, dir); after != before {
		t.Errorf("the directories have changed:\n%s\nwere\n%s", after, before)
	}
}

// treeOf lists files with their times and sizes.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-printf", "%p %T@ %s\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestExamplesOfUnions runs what docs/union.md shows of running containers.
func TestExamplesOfUnions(t *testing.T) {
	example := exampleOf(t, "## Running containers")
	dir := workdir(t)
	e := startTaredIn(t, dir, "--storage-driver", "aufs")
	e.docker = filepath.Join(programs(t), "tare")
	e.load(t, "busybox.tar")
	defer e.output(t, "rm", "-f", "box", "shop")
	cmd := exec.Command("bash", "-exo", "pipefail", "-c", example)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.socket, "PATH="+programs(t)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"sleep", "patched", "added image busybox:latest", "directory"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestExamplesOfVolumesOnDeviceMapper runs all that docs/dm-volumes.md shows, with disks that
// are there, and can be pulled.
func TestExamplesOfVolumesOnDeviceMapper(t *testing.T) {
	if err := exec.Command("modprobe", "dm-mod").Run(); err != nil {
		t.Skip("this kernel has no device mapper")
	}
	text, err := os.ReadFile("../../docs/dm-volumes.md")
	if err != nil {
		t.Fatal(err)
	}
	var examples strings.Builder
	for _, part := range strings.Split(string(text), "```sh\n")[1:] {
		example, _, _ := strings.Cut(part, "```\n")
		examples.WriteString(example)
	}
	e := startTared(t)
	e.docker = filepath.Join(programs(t), "tare")
	e.load(t, "busybox.tar")
	dir := t.TempDir()
	bin := t.TempDir()
	if err := os.Symlink(e.docker, filepath.Join(bin, "docker")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("timeout", "150", "bash", "-eo", "pipefail", "-c", disksThatCanBePulled+"set -x\n"+examples.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.socket, "DM_DISABLE_UDEV=1", "PATH="+bin+":"+programs(t)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"\nkept\n", "still here", "degraded", "over the other way", "\ngood\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// disksThatCanBePulled is shell that makes disks of 32 MB, and two ways to one.
const disksThatCanBePulled = `
end() {
	for d in disk1 disk2 disk3 path1 path2; do dmsetup remove --retry example-$d; done
	for l in $loops; do losetup -d $l; done
}
trap end EXIT
for d in disk1 disk2 disk3 path; do
	truncate -s 32m $d.img
	l=$(losetup --show -f $d.img)
	loops="$loops $l"
	case $d in
	path) names="path1 path2" ;;
	*) names=$d ;;
	esac
	for n in $names; do
		dmsetup create example-$n --table "0 65536 linear $l 0"
		dmsetup table example-$n >$n.table
		eval "${n^^}=/dev/mapper/example-$n"
	done
done
pull() { echo 0 65536 error | dmsetup load ${1##*/} && dmsetup resume --noflush --nolockfs ${1##*/}; }
plug() { dmsetup load ${1##*/} <${1##*-}.table && dmsetup resume --noflush --nolockfs ${1##*/}; }
`
