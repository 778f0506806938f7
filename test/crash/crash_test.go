//go:build root && failpoint

// Package crash kills the engine and the keeper at every named point of every
// operation and looks at what is left: what was acknowledged is there, and
// nothing else is.
package crash

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/test/fixture"
)

// operation is one thing a client asks for. prepare makes what it needs; do
// returns nil if the engine acknowledged it; verify then checks that it holds.
type operation struct {
	name    string
	prepare func(*box)
	do      func(*box) error
	verify  func(b *box, acknowledged bool)
}

var operations = slices.Concat(engineOperations, volumeOperations, volumeCopyOperations, sizedVolumeOperations, pluginOperations)

var engineOperations = []operation{
	{"create", nil,
		func(b *box) error { return b.try("create", "--name", "box", "--rootfs", b.rootfs(), "sleep", "1000") },
		func(b *box, ack bool) { b.present("box", ack) }},
	{"create from image", loadHello,
		func(b *box) error { return b.try("create", "--name", "box", "tare/hello") },
		func(b *box, ack bool) { b.present("box", ack) }},
	{"start", func(b *box) { b.must("create", "--name", "box", "--rootfs", b.rootfs(), "sleep", "1000") },
		func(b *box) error { return b.try("start", "box") },
		func(b *box, ack bool) {
			if state := b.state("box"); ack && !b.rebooted && state != "running" {
				b.t.Errorf("a start was acknowledged, and the container is %q", state)
			}
			b.present("box", true)
		}},
	{"start with a policy", func(b *box) {
		b.must("create", "--restart", "on-failure", "--name", "box", "--rootfs", b.rootfs(), "sleep", "1000")
	},
		func(b *box) error { return b.try("start", "box") },
		func(b *box, ack bool) {
			if ack {
				b.soon(func() bool { return b.state("box") == "running" })
			}
			if state := b.state("box"); ack && state != "running" {
				b.t.Errorf("a start was acknowledged, and the container is %q", state)
			}
			b.present("box", true)
		}},
	{"run", loadHello,
		func(b *box) error { return b.try("run", "--name", "box", "tare/hello") },
		func(b *box, ack bool) {
			want := "exited"
			if b.rebooted { // a run without a policy is in the record when it has ended
				want = "created"
			}
			ended := func() bool { state := b.state("box"); return state == "exited" || state == want }
			if ack { // by the keeper
				b.soon(ended)
			}
			if state := b.state("box"); ack && !ended() {
				b.t.Errorf("a run was acknowledged, and the container is %q", state)
			}
		}},
	{"restart --rm", func(b *box) { b.must("run", "-d", "--rm", "--name", "box", "--rootfs", b.rootfs(), "sleep", "1000") },
		func(b *box) error { return b.try("restart", "-t", "0", "box") },
		func(b *box, ack bool) {
			settled := func() bool { state := b.state("box"); return state == "running" || state == "" }
			b.soon(settled) // the next engine removes beside its answers
			if state := b.state("box"); !settled() || ack && !b.rebooted && state == "" {
				b.t.Errorf("acknowledged %v, and the container is %q", ack, state)
			}
		}},
	{"run --rm", nil,
		func(b *box) error { return b.try("run", "--rm", "--name", "box", "--rootfs", b.rootfs(), "true") },
		func(b *box, ack bool) {
			// The next engine removes beside its answers. What was not acknowledged was
			// not made, or is removed as well: nobody starts it any more.
			b.soon(func() bool { return b.state("box") == "" })
			if s := b.state("box"); s != "" {
				b.t.Errorf("a run that removes its container has left it (%s; acknowledged: %v)", s, ack)
			}
		}},
	{"stop", startSleeper,
		func(b *box) error { return b.try("stop", "-t", "0", "box") },
		func(b *box, ack bool) {
			b.present("box", true)
			if state := b.state("box"); ack && state != "exited" {
				b.t.Errorf("a stop was acknowledged, and the container is %q", state)
			}
		}},
	{"kill", startSleeper,
		func(b *box) error { return b.try("kill", "box") },
		func(b *box, ack bool) {
			if ack && !b.rebooted { // the signal is sent; the end comes by itself
				b.soon(func() bool { return b.state("box") == "exited" })
			}
			if state := b.state("box"); ack && !b.rebooted && state != "exited" {
				b.t.Errorf("a kill was acknowledged, and the container is %q", state)
			}
		}},
	{"rm", func(b *box) { b.must("create", "--name", "box", "--rootfs", b.rootfs(), "true") },
		func(b *box) error { return b.try("rm", "box") },
		func(b *box, ack bool) {
			if ack {
				b.absent("box")
			}
		}},
	{"rm -f", startSleeper,
		func(b *box) error { return b.try("rm", "-f", "box") },
		func(b *box, ack bool) {
			if ack {
				b.absent("box")
			}
		}},
	{"exec", startSleeper,
		func(b *box) error { return b.try("exec", "box", "true") },
		func(b *box, _ bool) {
			if state := b.state("box"); state != "running" && !b.rebooted || state == "" {
				b.t.Errorf("the container of an exec is %q", state)
			}
		}},
	{"attach", startSleeper,
		func(b *box) error {
			cmd := exec.Command("timeout", "-s", "KILL", "1", filepath.Join(bin, "tare"), "-H", "unix://"+b.socket(), "attach", "--no-stdin", "box")
			cmd.Run() // ends by the time, or with the engine
			return nil
		},
		func(b *box, _ bool) {
			if state := b.state("box"); state != "running" && !b.rebooted || state == "" {
				b.t.Errorf("the container of an attach is %q", state)
			}
		}},
	{"load", nil,
		func(b *box) error { return b.try("load", "-i", b.archive()) },
		func(b *box, ack bool) {
			out, err := b.tare("run", "--rm", fixture.Image, "/bin/busybox", "echo", "sound")
			if ack && (err != nil || out != "sound") {
				b.t.Errorf("a load was acknowledged, and the image is not sound: %q, %v", out, err)
			}
			if _, absent := b.tare("image", "inspect", fixture.Image); absent == nil && err != nil {
				b.t.Errorf("half an image is there: %v", err)
			}
		}},
	{"commit", func(b *box) {
		loadHello(b)
		b.must("run", "--name", "box", fixture.Image, "/bin/busybox", "touch", "/made")
	},
		func(b *box) error { return b.try("commit", "-c", "ENV A=b", "box", "committed") },
		func(b *box, ack bool) { b.wholeImage("committed", "/made", ack) }},
	{"commit of a configuration", func(b *box) {
		loadHello(b)
		b.must("create", "--name", "box", fixture.Image, "true")
	},
		func(b *box) error { return b.try("commit", "-c", "ENV A=b", "box", "committed") },
		func(b *box, ack bool) { b.wholeImage("committed", "/data", ack) }},
	{"cp in", func(b *box) {
		loadHello(b)
		b.must("create", "--name", "box", "-v", b.path("bound")+":/bound", fixture.Image, "true")
		b.filesToCopy()
	},
		func(b *box) error { return b.try("cp", b.path("in"), "box:/in") },
		func(b *box, ack bool) { // as tar(1) leaves it: on disk when the kernel writes it
			b.copied("box:/in", ack && !b.rebooted)
		}},
	{"cp into a running container", func(b *box) {
		loadHello(b)
		b.must("run", "-d", "--name", "box", fixture.Image, "/bin/busybox", "sleep", "1000")
		b.filesToCopy()
	},
		func(b *box) error { return b.try("cp", b.path("in"), "box:/in") },
		func(b *box, ack bool) { b.copied("box:/in", ack && !b.rebooted) }},
	{"cp out", func(b *box) {
		loadHello(b)
		b.must("create", "--name", "box", fixture.Image, "true")
		b.filesToCopy()
		b.must("cp", b.path("in"), "box:/in")
	},
		func(b *box) error { return b.try("cp", "box:/in", b.path("out")) },
		func(b *box, ack bool) { b.copied("box:/in", !b.rebooted) }},
	{"import", func(b *box) {
		loadHello(b)
		b.must("run", "--name", "box", fixture.Image, "/bin/busybox", "touch", "/made")
		b.must("export", "-o", b.path("files.tar"), "box")
	},
		func(b *box) error { return b.try("import", b.path("files.tar"), "imported") },
		func(b *box, ack bool) { b.wholeImage("imported", "/made", ack) }},
	{"load of an increment", func(b *box) {
		loadHello(b)
		b.must("run", "--name", "box", fixture.Image, "/bin/busybox", "touch", "/made")
		b.must("commit", "box", "derived")
		b.must("save", "--since", fixture.Image, "-o", b.path("increment.tar"), "derived")
		b.must("rmi", "derived")
	},
		func(b *box) error { return b.try("load", "-i", b.path("increment.tar")) },
		func(b *box, ack bool) { b.wholeImage("derived", "/made", ack) }},
	{"tag", loadHello,
		func(b *box) error { return b.try("tag", "tare/hello", "tare/tagged") },
		func(b *box, ack bool) {
			if _, err := b.tare("image", "inspect", "tare/tagged"); ack && err != nil {
				b.t.Errorf("a tag was acknowledged, and is not there: %v", err)
			}
			b.must("create", "--name", "box", "tare/hello", "true")
		}},
	{"rmi of a name", func(b *box) { loadHello(b); b.must("tag", "tare/hello", "tare/tagged") },
		func(b *box) error { return b.try("rmi", "tare/tagged") },
		func(b *box, ack bool) {
			if _, absent := b.tare("image", "inspect", "tare/tagged"); ack && absent == nil {
				b.t.Error("the removal of a name was acknowledged, and it is there")
			}
			b.must("create", "--name", "box", "tare/hello", "true")
		}},
	{"rmi", func(b *box) { b.must("load", "-i", b.archive()) },
		func(b *box) error { return b.try("rmi", fixture.Image) },
		func(b *box, ack bool) {
			_, absent := b.tare("image", "inspect", fixture.Image)
			if ack && absent == nil {
				b.t.Error("the removal of an image was acknowledged, and it is there")
			}
			if absent == nil {
				b.must("create", "--name", "box", fixture.Image, "true")
			}
			b.must("load", "-i", b.archive())
		}},
	{"network create", nil,
		func(b *box) error { return b.try("network", "create", "--subnet", "10.99.0.0/24", "net") },
		func(b *box, ack bool) { b.networkGone(ack) }},
	{"network create of macvlan", nil,
		func(b *box) error { return b.try(macvlan...) },
		func(b *box, ack bool) { b.networkGone(ack, "-d", "macvlan") }},
	{"network rm of macvlan", func(b *box) { b.must(macvlan...) },
		func(b *box) error { return b.try("network", "rm", "net") },
		func(b *box, ack bool) { b.networkGone(false, "-d", "macvlan") }},
	{"start in macvlan", func(b *box) {
		b.must(macvlan...)
		b.must("create", "--name", "box", "--network", "net", "--ip", "10.99.0.7", "--rootfs", b.rootfs(), "sleep", "1000")
	},
		func(b *box) error { return b.try("start", "box") },
		func(b *box, ack bool) {
			if state := b.state("box"); ack && !b.rebooted && state != "running" {
				b.t.Errorf("a start was acknowledged, and the container is %q", state)
			}
			b.must("rm", "-f", "box")
			b.networkGone(true, "-d", "macvlan")
			b.must("create", "--name", "box", "--rootfs", b.rootfs(), "true")
		}},
	{"network connect to macvlan", func(b *box) { b.must(macvlan...); startSleeper(b) },
		func(b *box) error { return b.try("network", "connect", "--ip", "10.99.0.7", "net", "box") },
		func(b *box, ack bool) { b.connected("net", ack, true) }},
	{"network disconnect from macvlan", func(b *box) { b.must(macvlan...); startSleeper(b); b.must("network", "connect", "net", "box") },
		func(b *box) error { return b.try("network", "disconnect", "net", "box") },
		func(b *box, ack bool) { b.connected("net", ack, false) }},
	{"network rm", func(b *box) { b.must("network", "create", "--subnet", "10.99.0.0/24", "net") },
		func(b *box) error { return b.try("network", "rm", "net") },
		(*box).networkRemoved},
	{"network rm beside cells", func(b *box) {
		b.must("network", "create", "--subnet", "10.99.0.0/24", "net")
		b.must("run", "--rm", "--network", "net", "--rootfs", b.rootfs(), "true")
	},
		func(b *box) error { return b.try("network", "rm", "net") },
		(*box).networkRemoved},
	{"run on a network", func(b *box) {
		b.must("network", "create", "--subnet", "10.99.0.0/24", "net")
		b.must("run", "--rm", "--network", "net", "--rootfs", b.rootfs(), "true")
	},
		func(b *box) error {
			return b.try("run", "-d", "--name", "box", "--network", "net", "--rootfs", b.rootfs(), "sleep", "1000")
		},
		func(b *box, ack bool) {
			if state := b.state("box"); ack && !b.rebooted && state != "running" {
				b.t.Errorf("a run was acknowledged, and the container is %q", state)
			}
			if b.state("box") == "running" && !b.finds("box", b.must("inspect", "-f", "{{.NetworkSettings.Networks.net.IPAddress}}", "box")) {
				b.t.Error("the container does not find its own name")
			}
			b.try("rm", "-f", "box")
			b.networkGone(true)
		}},
	{"network connect", func(b *box) {
		b.must("network", "create", "--subnet", "10.99.0.0/24", "net")
		startSleeper(b)
	},
		func(b *box) error { return b.try("network", "connect", "net", "box") },
		func(b *box, ack bool) { b.connected("net", ack, true) }},
	{"network disconnect", func(b *box) {
		b.must("network", "create", "--subnet", "10.99.0.0/24", "net")
		startSleeper(b)
		b.must("network", "connect", "net", "box")
	},
		func(b *box) error { return b.try("network", "disconnect", "net", "box") },
		func(b *box, ack bool) { b.connected("net", ack, false) }},
	{"update of published ports", func(b *box) {
		startSleeper(b)
		b.must("update", "--publish-add", "127.0.0.1:18098:80", "box")
	},
		func(b *box) error {
			return b.try("update", "--publish-rm", "127.0.0.1:18098:80", "--publish-add", "127.0.0.1:18099:80", "box")
		},
		(*box).published},
	{"start with limits", func(b *box) {
		b.must("create", "--net-rate-in", "8mbit", "--net-rate-out", "8mbit", "--name", "box", "--rootfs", b.rootfs(), "sleep", "1000")
	},
		func(b *box) error { return b.try("start", "box") },
		func(b *box, ack bool) { b.limited("8mbit", ack, "8Mbit") }},
	{"update of limits", func(b *box) {
		b.must("run", "-d", "--net-rate-out", "8mbit", "--name", "box", "--rootfs", b.rootfs(), "sleep", "1000")
	},
		func(b *box) error { return b.try("update", "--net-rate-out", "16mbit", "box") },
		func(b *box, ack bool) { b.limited("16mbit", ack, "8Mbit", "16Mbit") }},
	{"image import-engine", nil,
		func(b *box) error { return b.try("image", "import-engine", b.docker()) },
		func(b *box, ack bool) { b.wholeImage("another/image:1", "/data", ack) }},
	{"system import-engine", nil,
		func(b *box) error { return b.try("system", "import-engine", b.docker()) },
		(*box).movedIn},
	{"image mount", loadHello,
		func(b *box) error { return b.try("image", "mount", "tare/hello") },
		func(b *box, ack bool) { b.mountedImage("tare/hello", ack) }},
	{"image umount", func(b *box) { loadHello(b); b.must("image", "mount", "tare/hello") },
		func(b *box) error { return b.try("image", "umount", "tare/hello") },
		func(b *box, ack bool) {
			if paths, err := b.tare("image", "mount", "--format", "{{.Path}}"); err != nil || ack && paths != "" {
				b.t.Errorf("an image was unmounted, and is mounted at %q: %v", paths, err)
			}
			b.must("image", "umount", "--all")
		}},
	{"image repair", func(b *box) {
		b.image = b.registry()
		b.must("pull", b.image)
		b.damageBlob()
		b.damageLayers()
	},
		func(b *box) error { return b.try("image", "repair") },
		repaired},
	{"image repair of a blob", func(b *box) {
		b.image = b.registry()
		b.must("pull", b.image)
		b.damageBlob()
	},
		func(b *box) error { return b.try("image", "repair") },
		repaired},
	{"pull", func(b *box) { b.image = b.registry() },
		func(b *box) error { return b.try("pull", b.image) },
		func(b *box, ack bool) {
			out, err := b.tare("images", "-q", b.image)
			if ack && (err != nil || out == "") {
				b.t.Errorf("a pull was acknowledged, and the image is not there: %q, %v", out, err)
			}
			b.must("pull", b.image) // whatever was left
			b.must("create", "--name", "box", b.image, "true")
		}},
	{"push", func(b *box) { b.image = b.registry(); b.must("pull", b.image); b.must("tag", b.image, b.image+"-copy") },
		func(b *box) error { return b.try("push", b.image+"-copy") },
		func(b *box, ack bool) {
			if ack {
				b.must("rmi", b.image+"-copy")
				b.must("pull", b.image+"-copy")
			}
			b.must("push", b.image) // whatever was left
		}},
	{"rename", func(b *box) { b.must("create", "--name", "old", "--rootfs", b.rootfs(), "true") },
		func(b *box) error { return b.try("rename", "old", "box") },
		func(b *box, ack bool) {
			if ack {
				b.present("box", true)
				b.absent("old")
			}
		}},
}

// wholeImage says that an image is there if that was acknowledged, and that it
// is whole if it is there: it holds the file.
func (b *box) wholeImage(ref, file string, acknowledged bool) {
	b.t.Helper()
	_, absent := b.tare("image", "inspect", ref)
	if absent != nil {
		if acknowledged {
			b.t.Errorf("%s was acknowledged, and is not there", ref)
		}
		return
	}
	if out, err := b.tare("run", "--rm", ref, "/bin/busybox", "ls", file); err != nil || out != file {
		b.t.Errorf("half of %s is there (acknowledged: %v): %q, %v", ref, acknowledged, out, err)
	}
	b.must("save", "-o", b.path("saved.tar"), ref)
	b.must("rmi", ref)
}

// movedIn checks what came of a Docker's data root: each object is whole or absent, and
// another import brings what is missing.
func (b *box) movedIn(acknowledged bool) {
	b.t.Helper()
	there := func(args ...string) bool { _, err := b.tare(args...); return err == nil }
	objects := map[string]bool{
		"volume": there("volume", "inspect", "data"), "network": there("network", "inspect", "net"), "container": there("inspect", "moved"),
	}
	for kind, ok := range objects {
		if acknowledged && !ok {
			b.t.Errorf("an import was acknowledged, and its %s is not there", kind)
		}
	}
	check := func(want string, args ...string) {
		b.t.Helper()
		if out, err := b.tare(args...); err != nil || out != want {
			b.t.Errorf("%q: %q, %v, want %q", args, out, err, want)
		}
	}
	if objects["volume"] {
		b.must("volume", "cp", "data:/kept", b.path("kept"))
	}
	if !objects["container"] {
		b.must("system", "import-engine", b.docker())
	}
	check("hello", "logs", "moved")
	check("exited 3 /moved", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.Name}}", "moved")
	check("1", "inspect", "-f", "{{len .NetworkSettings.Networks}}", "moved")
	b.must("cp", "moved:/new", b.path("new"))
	b.must("rm", "-v", "moved")
	b.must("volume", "rm", "data")
	b.must("network", "rm", "net")
	b.must("rmi", "another/image:1")
}

// macvlan makes the network "net" on a link that is the engine's too.
var macvlan = []string{"network", "create", "-d", "macvlan", "--subnet", "10.99.0.0/24", "net"}

// networkRemoved checks that the network "net" is gone if that was acknowledged.
func (b *box) networkRemoved(acknowledged bool) {
	b.t.Helper()
	if _, absent := b.tare("network", "inspect", "net"); acknowledged && absent == nil {
		b.t.Error("the removal of a network was acknowledged, and it is there")
	}
	b.networkGone(false)
}

// networkGone uses the network "net" and removes it; it must be there if that was
// acknowledged. flags make it again.
func (b *box) networkGone(acknowledged bool, flags ...string) {
	b.t.Helper()
	if _, err := b.tare("network", "inspect", "net"); err != nil {
		if acknowledged {
			b.t.Errorf("a network was acknowledged, and is not there: %v", err)
		}
		b.must(append([]string{"network", "create", "--subnet", "10.99.0.0/24", "net"}, flags...)...)
	}
	b.must("run", "--rm", "--network", "net", "--ip", "10.99.0.7", "--rootfs", b.rootfs(), "true")
	b.must("network", "rm", "net")
}

// connected checks whether the container "box" is in a network, and where its way
// out is; acknowledged is what was done last, to be in it or not.
func (b *box) connected(network string, acknowledged, in bool) {
	b.t.Helper()
	list := b.must("inspect", "-f", "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}", "box")
	got := slices.Contains(strings.Fields(list), network)
	if acknowledged && got != in {
		b.t.Errorf("in %q: %v was acknowledged, and the container is in %q", network, in, list)
	}
	if state := b.state("box"); state == "running" {
		// The way out of a container in both is the default network: its name is first.
		routes, _ := exec.Command("nsenter", "-t", b.must("inspect", "-f", "{{.State.Pid}}", "box"), "-n", "ip", "route").CombinedOutput()
		if !strings.Contains(string(routes), "default via 172.17.0.1 ") || strings.Contains(string(routes), "10.99.0.") != got {
			b.t.Errorf("in %q: %v, and the routes are\n%s", network, got, routes)
		}
		if got && !b.finds("box", b.must("inspect", "-f", "{{.NetworkSettings.Networks."+network+".IPAddress}}", "box")) {
			b.t.Error("the container is in a network of names and does not find its own")
		}
	} else if !b.rebooted {
		b.t.Errorf("the container is %q", state)
	}
	b.must("rm", "-f", "box")
	b.must("network", "rm", network)
	b.must("create", "--name", "box", "--rootfs", b.rootfs(), "true")
}

// finds asks for a name inside the container "box".
func (b *box) finds(name, want string) bool {
	b.t.Helper()
	pid, err := strconv.Atoi(b.must("inspect", "-f", "{{.State.Pid}}", "box"))
	if err != nil {
		b.t.Fatal(err)
	}
	ns, err := netns.OfProcess(pid)
	if err != nil {
		b.t.Fatal(err)
	}
	defer ns.Close()
	var c net.Conn
	if err := netns.Do(ns, func() (err error) { c, err = net.Dial("udp", "127.0.0.11:53"); return }); err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	r, _, err := (&dns.Client{Timeout: 10 * time.Second}).ExchangeWithConn((&dns.Msg{}).SetQuestion(name+".", dns.TypeA), &dns.Conn{Conn: c})
	if err != nil || len(r.Answer) != 1 {
		b.t.Log(r, err)
		return false
	}
	a, ok := r.Answer[0].(*dns.A)
	return ok && a.A.String() == want
}

// published checks that a container has one of two ports published, or, if that was
// acknowledged, the second; the kernel and the engine agree.
func (b *box) published(acknowledged bool) {
	b.t.Helper()
	const before, after = "127.0.0.1:18098", "127.0.0.1:18099"
	ports, _ := b.tare("port", "box")
	rules, err := exec.Command("nsenter", "--net=/run/netns/"+b.netns, "nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		b.t.Fatal(err, string(rules))
	}
	for _, port := range []string{before, after} {
		_, number, _ := strings.Cut(port, ":")
		if strings.Contains(ports, port) != strings.Contains(string(rules), number) {
			b.t.Errorf("published is %q, and the rules are\n%s", ports, rules)
		}
	}
	switch has := strings.Contains(ports, after); {
	case b.rebooted:
	case acknowledged && (!has || strings.Contains(ports, before)):
		b.t.Errorf("the change of a port was acknowledged, and published is %q", ports)
	case !has && !strings.Contains(ports, before):
		b.t.Errorf("neither port is published: %q", ports)
	}
	b.must("rm", "-f", "box")
	b.must("run", "--rm", "-p", before+":80", "-p", after+":80", "--rootfs", b.rootfs(), "true") // they are free
	b.must("create", "--name", "box", "--rootfs", b.rootfs(), "true")
}

// limited checks that a running container has one of the rates in the kernel, the last
// if that was acknowledged; wanted is what its record says then.
func (b *box) limited(wanted string, acknowledged bool, rates ...string) {
	b.t.Helper()
	if says := b.must("inspect", "-f", `{{index .HostConfig.Annotations "tare.net-rate-out"}}`, "box"); acknowledged && says != wanted {
		b.t.Errorf("%s was acknowledged, and the record says %s", wanted, says)
	}
	queues, err := exec.Command("nsenter", "--net=/run/netns/"+b.netns, "tc", "qdisc", "show").CombinedOutput()
	if err != nil {
		b.t.Fatal(err, string(queues))
	}
	has := func(rate string) bool { return strings.Contains(string(queues), "rate "+rate+" ") }
	switch last := rates[len(rates)-1]; {
	case b.state("box") != "running":
	case acknowledged && !has(last) || !slices.ContainsFunc(rates, has):
		b.t.Errorf("acknowledged %v; not one of %q:\n%s", acknowledged, rates, queues)
	}
	b.must("rm", "-f", "box")
	b.soon(func() bool {
		left, err := exec.Command("nsenter", "--net=/run/netns/"+b.netns, "tc", "qdisc", "show").CombinedOutput()
		return err == nil && !strings.Contains(string(left), "tbf")
	})
	if left, _ := exec.Command("nsenter", "--net=/run/netns/"+b.netns, "ip", "-o", "link").CombinedOutput(); strings.Contains(string(left), ": ti") {
		b.t.Errorf("left:\n%s", left)
	}
	b.must("create", "--name", "box", "--rootfs", b.rootfs(), "true")
}

func loadHello(b *box) { b.must("load", "-i", b.archive()); b.must("tag", fixture.Image, "tare/hello") }

func repaired(b *box, acknowledged bool) {
	b.t.Helper()
	if out, err := b.tare("image", "verify", "-q"); acknowledged && err != nil {
		b.t.Errorf("a repair was acknowledged, and there is damage: %q, %v", out, err)
	}
	b.must("image", "repair")
	b.must("image", "verify")
	b.must("create", "--name", "box", b.image, "true")
}

// damageBlob shortens the largest blob.
func (b *box) damageBlob() {
	b.t.Helper()
	blobs := b.filesOf("data/content/blobs/sha256/*")
	largest := slices.MaxFunc(slices.Collect(maps.Keys(blobs)), func(x, y string) int { return cmp.Compare(blobs[x], blobs[y]) })
	b.shorten(largest, blobs[largest])
}

// damageLayers shortens the files of unpacked layers.
func (b *box) damageLayers() {
	b.t.Helper()
	for name, size := range b.filesOf("data/layers/*/*/diff/*", "data/layers/*/*/diff/*/*") {
		b.shorten(name, size)
	}
}

// filesOf returns the files that are not empty, with their sizes; there are some.
func (b *box) filesOf(patterns ...string) map[string]int64 {
	b.t.Helper()
	files := map[string]int64{}
	for _, pattern := range patterns {
		found, err := filepath.Glob(b.path(pattern))
		if err != nil {
			b.t.Fatal(err)
		}
		for _, name := range found {
			if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
				files[name] = info.Size()
			}
		}
	}
	if len(files) == 0 {
		b.t.Fatalf("no files: %q", patterns)
	}
	return files
}

func (b *box) shorten(name string, size int64) {
	b.t.Helper()
	b.damaged = true
	if err := os.Truncate(name, size-1); err != nil {
		b.t.Fatal(err)
	}
}

func startSleeper(b *box) {
	b.must("run", "-d", "--name", "box", "--rootfs", b.rootfs(), "sleep", "1000")
}

// TestKillAtEachPoint kills at each point that an operation passes, then looks.
func TestKillAtEachPoint(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	t.Run("operations", func(t *testing.T) {
		for _, op := range operations {
			t.Run(op.name, func(t *testing.T) {
				t.Parallel()
				points := killAtEach(t, op)
				mu.Lock()
				defer mu.Unlock()
				for _, p := range points {
					seen[p] = true
				}
			})
		}
	})
	const atLeast = 60
	if len(seen) < atLeast {
		t.Errorf("killed at %d points, want at least %d: %v", len(seen), atLeast, slices.Sorted(maps.Keys(seen)))
	}
	t.Logf("killed at %d points", len(seen))
}

// killAtEach tries an operation once undisturbed, which tells its points and
// what a stopped engine then has, and once with a kill at each. It returns the
// points that were reached.
func killAtEach(t *testing.T, op operation) (reached []string) {
	b := newBox(t)
	b.up()
	os.Remove(b.path("failpoints.log")) // of the boot
	b.down()
	b.up()
	points := b.undisturbed(op)
	base := b.snapshot()
	for _, d := range []string{"data/containers", "data/trash", "data/spool", "run/containers", "run/live", "run/exits"} {
		if entries, _ := os.ReadDir(b.path(d)); len(entries) > 0 {
			t.Errorf("undisturbed, and %s holds %v", d, entries)
		}
	}
	b.soon(func() bool { return len(b.ours()) == 0 })
	if left := b.ours(); len(left) > 0 {
		t.Errorf("undisturbed, and these run: %v", left)
	}
	for _, point := range points {
		if testing.Short() && !firstHere(point) {
			continue
		}
		t.Run(point, func(t *testing.T) {
			b.t = t
			defer func() { b.t = t }()
			if b.killAt(op, point) {
				reached = append(reached, point)
			}
			b.settled(base)
		})
	}
	b.t = t
	return reached
}

// tried are the points that a short run has killed at.
var tried sync.Map

// firstHere reports whether no operation of this run has been killed at the
// point: a short run (make test) kills once at each, a whole one (make
// crash-test, make soak) in each operation that passes it.
func firstHere(point string) bool {
	_, before := tried.LoadOrStore(point, true)
	return !before
}

// undisturbed runs the operation and returns the points it passes.
func (b *box) undisturbed(op operation) []string {
	b.must("run", "--rm", "--rootfs", b.rootfs(), "true") // makes what the first start makes for good
	if op.prepare != nil {
		op.prepare(b)
	}
	os.Truncate(b.path("failpoints.log"), 0)
	began := time.Now()
	if err := op.do(b); err != nil {
		b.t.Fatalf("undisturbed: %v\n%s", err, b.tail())
	}
	b.took = time.Since(began)
	log := b.quiet("failpoints.log") // some of it goes on after the answer
	points := map[string]bool{}
	for name := range strings.Lines(string(log)) {
		points[strings.TrimSpace(name)] = true
	}
	if op.verify != nil {
		op.verify(b, true)
	}
	b.clear()
	return slices.Sorted(maps.Keys(points))
}

// quiet reads a file once it has not grown for 300 ms.
func (b *box) quiet(name string) []byte {
	b.t.Helper()
	var text []byte
	for still := 0; still < 30; still++ {
		now, err := os.ReadFile(b.path(name))
		if err != nil {
			b.t.Fatal(err)
		}
		if len(now) != len(text) {
			still = 0
		}
		text = now
		time.Sleep(10 * time.Millisecond)
	}
	return text
}

// killAt runs the operation with a kill at a point and checks what holds after
// the next start. It reports whether the point was reached.
func (b *box) killAt(op operation, point string) bool {
	b.up()
	if op.prepare != nil {
		op.prepare(b)
	}
	b.arm(point)
	done := make(chan error, 1)
	go func() { done <- op.do(b) }()
	var err error
	for ended := false; !ended && !(b.struck() && b.dead()); {
		select {
		case err = <-done:
			done <- err
			ended = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	for end := time.Now().Add(time.Second); !b.struck() && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	reached := b.disarm()
	if reached {
		time.Sleep(20 * time.Millisecond) // who has come to the point dies in a moment
	}
	if !b.survived() { // else it was the keeper, which the engine replaces
		b.up() // a client may be waiting for it
	}
	acknowledged := <-done == nil
	op.verify(b, acknowledged)
	b.clear()
	return reached
}

// survived reports whether the engine was not what was killed. A process that
// is about to die says nothing any more.
func (b *box) survived() bool {
	for !b.dead() {
		if b.answers() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// clear removes all containers, and the image that was loaded, and stops the
// engine.
func (b *box) clear() {
	b.t.Helper()
	if ids := b.ids(); len(ids) > 0 {
		b.must(append([]string{"rm", "-f"}, ids...)...)
	}
	b.must("image", "prune", "-af")
	b.image, b.damaged = "", false
	b.soon(func() bool { // a stop waits for neither
		trash, _ := os.ReadDir(b.path("data/trash"))
		exits, _ := os.ReadDir(b.path("run/exits"))
		return len(trash)+len(exits) == 0
	})
	b.down()
}

// soon waits for what is to come about by itself.
func (b *box) soon(come func() bool) {
	for end := time.Now().Add(time.Minute); !come() && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
	}
}

func (b *box) try(args ...string) error {
	_, err := b.tare(args...)
	return err
}

// filesToCopy makes files for a copy, anew each time.
func (b *box) filesToCopy() {
	b.t.Helper()
	err := errors.Join(os.RemoveAll(b.path("out")), os.RemoveAll(b.path("in")), os.MkdirAll(b.path("in/dir"), 0o755),
		os.WriteFile(b.path("in/dir/file"), bytes.Repeat([]byte("data"), 1<<20), 0o640))
	if err != nil {
		b.t.Fatal(err)
	}
}

// copied looks at what a copy has left. All of it is there if it was acknowledged;
// else some of it may be. The container's files can be copied in any case.
func (b *box) copied(from string, all bool) {
	b.t.Helper()
	if err := os.RemoveAll(b.path("again")); err != nil {
		b.t.Fatal(err)
	}
	_, err := b.tare("cp", from, b.path("again"))
	if !all && err != nil && strings.Contains(err.Error(), "Could not find the file") {
		return
	}
	if err != nil {
		b.t.Errorf("a copy was cut off: %v", err)
		return
	}
	st, err := os.Stat(b.path("again/dir/file"))
	if all && (err != nil || st.Size() != 4<<20 || st.Mode() != 0o640) {
		b.t.Errorf("a copy was acknowledged: %v, %v", st, err)
	}
}

func (b *box) ids() []string { return strings.Fields(b.must("ps", "-aq", "--no-trunc")) }

func (b *box) state(name string) string {
	out, _ := b.tare("inspect", "--format", "{{.State.Status}}", name)
	return out
}

func (b *box) present(name string, want bool) {
	b.t.Helper()
	if want && b.state(name) == "" {
		b.t.Errorf("container %q was acknowledged and is not there", name)
	}
}

func (b *box) absent(name string) {
	b.t.Helper()
	if s := b.state(name); s != "" {
		b.t.Errorf("the removal of container %q was acknowledged, and it is there (%s)", name, s)
	}
}

// mountedImage says that an image is mounted if that was acknowledged, that its
// files are there if it is, and unmounts it.
func (b *box) mountedImage(ref string, acknowledged bool) {
	b.t.Helper()
	path, err := b.tare("image", "mount", "--format", "{{.Path}}")
	switch {
	case err != nil:
		b.t.Errorf("mounts of images: %v", err)
	case path == "" && acknowledged && !b.rebooted:
		b.t.Errorf("a mount of %s was acknowledged, and is not there", ref)
	case path != "":
		if files, err := os.ReadDir(path); err != nil || len(files) == 0 {
			b.t.Errorf("the mount of %s at %s: %v, %v", ref, path, files, err)
		}
	}
	b.must("image", "umount", "--all")
	b.must("rmi", "-f", ref)
}
