//go:build root && failpoint && soak

package crash

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/tare-engine/tare/test/fixture"
)

// workload is what clients ask for, and what must hold of it: a client notes an
// answer that adds something, and before it asks for a removal, that it may be gone.
type workload struct {
	b          *box
	repository string // in a registry, with soakImages tags
	stop       chan struct{}

	mu     sync.Mutex
	kept   map[string]bool // containers that must be there; whether they run
	gone   []string        // containers that must not
	images map[string]bool // names that must be there; false: that must not
	joined map[string]bool // networks in which the container "box" must be; false: must not
	cutNow bool            // with the next answer
	ended  bool            // nothing that is noted counts any more
}

// newWorkload expects the image of the fixture and a container "box" that runs.
func newWorkload(b *box, repository string) *workload {
	b.must("run", "--name", "made", fixture.Image, "/bin/busybox", "touch", "/made")
	b.must("export", "-o", b.path("files.tar"), "made")
	return &workload{
		b: b, repository: repository, stop: make(chan struct{}),
		kept: map[string]bool{"box": true, "made": false}, images: map[string]bool{}, joined: map[string]bool{},
	}
}

// run does one thing after the other until the end.
func (w *workload) run(client string, work func(w *workload, client string, n int)) {
	for n := 0; ; n++ {
		select {
		case <-w.stop:
			return
		default:
			work(w, client, n)
		}
	}
}

// end has the clients end, and what they are told from now on not count.
func (w *workload) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		close(w.stop)
	}
	w.ended = true
}

// cut cuts the power: now, or when the next answer comes. Nothing is noted
// meanwhile, so what was noted before must hold.
func (w *workload) cut() {
	if rand.IntN(2) == 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cutLocked()
		return
	}
	w.mu.Lock()
	w.cutNow = true
	w.mu.Unlock()
	<-w.stop
}

func (w *workload) cutLocked() {
	w.b.cut()
	w.ended, w.cutNow = true, false
	close(w.stop)
}

// note takes note of an answer, or of what is about to be asked for.
func (w *workload) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	f()
	if w.cutNow {
		w.cutLocked()
	}
}

// containers is one thing with containers, or a load.
func (w *workload) containers(client string, n int) {
	name := fmt.Sprintf("w%s-%d", client, n)
	switch rand.IntN(5) {
	case 0:
		if w.b.try("run", "--rm", "--name", name, "--rootfs", w.b.path("rootfs"), "true") == nil {
			w.note(func() { w.gone = append(w.gone, name) })
		}
	case 1:
		w.lifetime(name)
	case 2:
		w.b.try("exec", "box", "true")
	case 3:
		w.makes(fixture.Image, "load", "-i", w.b.archive())
	case 4:
		if w.b.try("create", "--name", name, "--rootfs", w.b.path("rootfs"), "true") == nil {
			w.note(func() { w.kept[name] = false })
		}
	}
}

// lifetime is run -d, stop and rm: each answer changes what must hold.
func (w *workload) lifetime(name string) {
	if w.b.try("run", "-d", "--name", name, "--rootfs", w.b.path("rootfs"), "sleep", "1000") != nil {
		return
	}
	w.note(func() { w.kept[name] = true })
	w.note(func() { w.kept[name] = false }) // from now on it may have stopped
	if w.b.try("stop", "-t", "0", name) != nil {
		return
	}
	w.note(func() { delete(w.kept, name) }) // from now on it may be gone
	if w.b.try("rm", name) == nil {
		w.note(func() { w.gone = append(w.gone, name) })
	}
}

// pulls brings an image, or removes it. Clients have images of their own, and share
// the layers of none.
func (w *workload) pulls(client string, n int) {
	ref := fmt.Sprintf("%s:%d", w.repository, 2*rand.IntN(soakImages/2)+int(client[0]-'0'))
	if rand.IntN(3) > 0 {
		w.makes(ref, "pull", ref)
		return
	}
	w.removes(ref)
}

// connects has the container "box" come into a network, or leave it. Clients have
// networks of their own.
func (w *workload) connects(client string, n int) {
	name, change := "soak-"+client, [...]string{"connect", "disconnect"}[n%2]
	if n == 0 && w.b.try("network", "create", name) != nil {
		return
	}
	w.note(func() { delete(w.joined, name) })
	if w.b.try("network", change, name, "box") == nil {
		w.note(func() { w.joined[name] = change == "connect" })
	}
}

// checkNetworks looks whether the container "box" is in the networks that were
// acknowledged, its namespace too, and takes them away.
func (w *workload) checkNetworks() {
	b := w.b
	all := slices.DeleteFunc(strings.Fields(b.must("network", "ls", "--format", "{{.Name}}")), func(s string) bool { return !strings.HasPrefix(s, "soak-") })
	if len(all)+len(w.joined) == 0 {
		return
	}
	in := strings.Fields(b.must("inspect", "-f", "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}", "box"))
	for name, want := range w.joined {
		if got := slices.Contains(in, name); got != want {
			b.t.Errorf("in network %s: %v, and was acknowledged to be %v", name, got, want)
		}
	}
	if links := strings.Count(b.must("exec", "box", "busybox", "ip", "-o", "link"), " eth"); links != len(in) {
		b.t.Errorf("in networks %q, and with %d links", in, links)
	}
	for _, name := range in {
		if strings.HasPrefix(name, "soak-") && b.try("exec", "box", "busybox", "nslookup", "box."+name, "127.0.0.11") != nil {
			b.t.Errorf("no names of %s are answered", name)
		}
	}
	b.must("rm", "-f", "box")
	for _, name := range all {
		b.must("network", "rm", name)
	}
}

// everything is one thing with containers or images.
func (w *workload) everything(client string, n int) {
	name := fmt.Sprintf("made%s:%d", client, n)
	switch rand.IntN(7) {
	case 0, 1:
		w.containers(client, n)
	case 2:
		w.pulls(client, n)
	case 3:
		w.makes(name, "commit", "made", name)
	case 4:
		w.makes(name, "import", w.b.path("files.tar"), name)
	case 5:
		w.makes(name, "tag", fixture.Image, name)
		w.removes(name)
	case 6:
		pushed := fmt.Sprintf("%s-%s:%d", w.repository, client, n)
		w.makes(pushed, "tag", fixture.Image, pushed)
		w.b.try("push", pushed)
	}
}

// makes asks for what ends with an image that has the name: if it had none, it may
// have one from now on.
func (w *workload) makes(name string, args ...string) {
	w.note(func() {
		if !w.images[name] {
			delete(w.images, name)
		}
	})
	if w.b.try(args...) == nil {
		w.note(func() { w.images[name] = true })
	}
}

// removes removes a name.
func (w *workload) removes(name string) {
	w.note(func() { delete(w.images, name) })
	if w.b.try("rmi", name) == nil {
		w.note(func() { w.images[name] = false })
	}
}

// check looks whether all holds that must.
func (w *workload) check() {
	b := w.b
	for name, running := range w.kept {
		switch state := b.state(name); {
		case state == "":
			b.t.Errorf("container %q was acknowledged and is not there", name)
		case running && state != "running" && !b.rebooted:
			b.t.Errorf("container %q ran and is %q", name, state)
		}
	}
	for _, name := range w.gone {
		// A run's exit code comes from the keeper: the next engine removes beside its answers.
		b.soon(func() bool { return b.state(name) == "" })
		b.absent(name)
	}
	b.sound()
	w.checkImages()
	b.must("load", "-i", b.archive())
	for i := range soakImages { // which takes up the beginnings of blobs that are left
		b.must("pull", fmt.Sprintf("%s:%d", w.repository, i))
	}
}

func (w *workload) checkImages() {
	b := w.b
	there := strings.Fields(b.must("images", "--format", "{{.Repository}}:{{.Tag}}"))
	for name, want := range w.images {
		if got := slices.Contains(there, name); got != want {
			b.t.Errorf("image %q: there %v, and was acknowledged to be %v; of %q", name, got, want, there)
		}
	}
	for name := range maps.Keys(w.images) {
		if w.images[name] && strings.HasPrefix(name, "made") {
			if out, err := b.tare("run", "--rm", name, "/bin/busybox", "echo", "sound"); err != nil || out != "sound" {
				b.t.Errorf("image %q was acknowledged, and is not sound: %q, %v", name, out, err)
			}
		}
	}
}
