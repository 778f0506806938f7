package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// startRegistry starts Debian's docker-registry at the address, with its data
// in dir.
func (b *bench) startRegistry(address, dir string) (stop func(), err error) {
	config := dir + ".yml"
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, address)
	if err := os.WriteFile(config, []byte(text), 0600); err != nil {
		return nil, err
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("apt-get install docker-registry: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it ends by the signal
	}
	for range 500 {
		if resp, err := http.Get("http://" + address + "/v2/"); err == nil {
			return stop, resp.Body.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return nil, errors.New("the registry does not answer")
}

// puller is a contestant of the rows of the registry.
type puller struct {
	name string
	run  func(args ...string) error // pull -q REF, push -q REF, tag, rmi; load -q -i FILE, save -o FILE REF
}

// pullers are the contestants; stop ends those that were started for this.
func (b *bench) pullers() (list []puller, stop func(), err error) {
	stop = func() {}
	list = []puller{{"tare", b.tareCLI}}
	for _, e := range b.engines() {
		list = append(list, puller{"docker against " + e.name, e.docker})
	}
	if podman, err := exec.LookPath("podman"); err == nil && b.o.reference {
		list = append(list, puller{"podman", func(args ...string) error {
			if args[0] == "pull" || args[0] == "push" {
				args = append([]string{args[0], "--tls-verify=false"}, args[1:]...)
			}
			return command(podman, append([]string{"--root", b.path("podman"), "--runroot", filepath.Join(b.tmpfs, "podman"), "--storage-driver", "overlay"}, args...)...)
		}})
	}
	if b.o.reference {
		var ctr puller
		if ctr, stop, err = b.startContainerd(); err != nil {
			return nil, nil, err
		}
		list = append(list, ctr)
	}
	return list, stop, nil
}

// registry times pull and push of a real image of 200 MB and eight layers. They
// are gzip where a dockerd has pushed them. The floors are igzip with tar, and
// sha256sum.
func (b *bench) registry() error {
	archive, err := b.realImage()
	if err != nil {
		return err
	}
	const from, to = "127.0.0.1:5500", "127.0.0.1:5501"
	source, sink := b.path("registry"), b.path("registry-empty")
	for address, dir := range map[string]string{from: source, to: sink} {
		stop, err := b.startRegistry(address, dir)
		if err != nil {
			return err
		}
		defer stop()
	}
	ref, pushed := from+"/debian:1", to+"/debian:1"
	if err := b.seed(archive, ref); err != nil {
		return err
	}
	fmt.Printf("| pull from and push to a registry on loopback | s |\n|---|---|\n")
	if err := b.registryFloors(source); err != nil {
		return err
	}
	pullers, stop, err := b.pullers()
	if err != nil {
		return err
	}
	defer stop()
	for _, p := range pullers {
		if err := b.registryRows(p, ref, pushed, sink); err != nil {
			return err
		}
	}
	fmt.Println()
	return errors.Join(os.RemoveAll(source), os.RemoveAll(sink), os.Remove(b.path("whole.tar")))
}

// registryRows times one contestant. The archive that all load is the first one's.
func (b *bench) registryRows(p puller, ref, pushed, sink string) error {
	none := func() error { return nil }
	remove := func() error { return p.run("rmi", ref) }
	pull := func() error { return p.run("pull", "-q", ref) }
	whole, saved := b.path("whole.tar"), b.path("saved.tar")
	save := func(to string) func() error { return func() error { return p.run("save", "-o", to, ref) } }
	for _, r := range []struct {
		name             string
		n                int
		before, do, undo func() error
	}{
		{"pull, empty store", 3, none, pull, remove},
		{"pull of what is there", 5, pull, pull, none},
		{"push to an empty registry", 3, func() error { return p.run("tag", ref, pushed) }, func() error { return p.run("push", "-q", pushed) },
			func() error { return os.RemoveAll(sink + "/docker") }},
		{"save of what was pulled", 3, none, save(saved), func() error { return os.Remove(saved) }},
		{"load of that archive, as tare saves it", 3, func() error { return p.archive(whole, save(whole), ref, pushed) },
			func() error { return p.run("load", "-q", "-i", whole) }, remove},
	} {
		if err := r.before(); err != nil {
			return err
		}
		took, err := fastest(r.n, r.do, r.undo)
		if err != nil {
			return err
		}
		fmt.Printf("| %s: %s | %.3f |\n", p.name, r.name, took.Seconds())
	}
	return nil
}

// archive saves the image unless somebody has, and removes it.
func (p puller) archive(file string, save func() error, refs ...string) error {
	if _, err := os.Stat(file); err != nil {
		if err := save(); err != nil {
			return err
		}
	}
	return p.run(append([]string{"rmi"}, refs...)...)
}

// seed puts the image of an archive into the registry.
func (b *bench) seed(archive, ref string) error {
	e := b.engines()[len(b.engines())-1] // dockerd, if there is one: it packs the layers
	out, err := e.output("load", "-q", "-i", archive)
	if err != nil {
		return err
	}
	names := strings.Fields(strings.ReplaceAll(out, "Loaded image:", ""))
	if len(names) == 0 {
		return fmt.Errorf("%s has no name: %s", archive, out)
	}
	return errors.Join(e.docker("tag", names[0], ref), e.docker("push", "-q", ref), e.docker(append([]string{"rmi", "-f", ref}, names...)...))
}

// registryFloors unpacks and hashes what the registry has of the image, one
// layer after the other.
func (b *bench) registryFloors(dir string) error {
	const small = 4 << 10 // manifests and configurations
	var layers []string
	err := filepath.WalkDir(dir+"/docker/registry/v2/blobs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > small {
			layers = append(layers, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	to := b.path("untar")
	for _, floor := range []struct{ name, script string }{
		{"igzip and tar", `for f; do mkdir -p ` + to + `/$((n = n + 1)); { igzip -dc "$f" 2>/dev/null || cat "$f"; } | tar -xC ` + to + `/$n; done`},
		{"sha256sum of the layers, packed", `sha256sum "$@"`},
	} {
		took, err := fastest(3, func() error { return command("sh", append([]string{"-c", floor.script, "sh"}, layers...)...) }, func() error { return os.RemoveAll(to) })
		if err != nil {
			return err
		}
		fmt.Printf("| floor: %s | %.3f |\n", floor.name, took.Seconds())
	}
	return nil
}
