package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/test/fixture"
)

// bench is one run: its file system, its engines.
type bench struct {
	o       options
	dir     string // on the ext4
	tmpfs   string
	loop    string
	tare    *engine
	docker  *engine // nil if it is not measured
	running *client.Client
}

// engine is a running daemon and its socket.
type engine struct {
	name   string
	socket string
	cmd    *exec.Cmd
}

func newBench(o options) (_ *bench, err error) {
	b := &bench{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if err := b.fileSystem(); err != nil {
		return nil, err
	}
	// A host that is a router: else each engine would keep the other's packets from being forwarded.
	if err := errors.Join(command("ip", "link", "set", "lo", "up"), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)); err != nil {
		return nil, err
	}
	if err := errors.Join(fixture.Rootfs(b.path("rootfs")), fixture.Archive(b.path("image.tar"))); err != nil {
		return nil, err
	}
	if err := emptyProgram(b.path("empty")); err != nil {
		return nil, err
	}
	if b.tare, err = b.startTare(); err != nil {
		return nil, err
	}
	if o.reference {
		if b.docker, err = b.startDocker(); err != nil {
			return nil, err
		}
	}
	for _, e := range b.engines() {
		if err := e.docker("load", "-q", "-i", b.path("image.tar")); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) engines() []*engine {
	list := []*engine{b.tare}
	if b.docker != nil {
		list = append(list, b.docker)
	}
	return list
}

// fileSystem mounts an ext4 that lies on a tmpfs: a disk's allocator would add
// its own noise to small files.
func (b *bench) fileSystem() error {
	dir, err := os.MkdirTemp("/var/tmp", "tare-bench-")
	if err != nil {
		return err
	}
	b.tmpfs, b.dir = dir, filepath.Join(dir, "fs")
	file := filepath.Join(dir, "disk")
	if err := command("mount", "-t", "tmpfs", "-o", "size=12g", "tmpfs", dir); err != nil {
		return err
	}
	if err := errors.Join(command("truncate", "-s", "10g", file), command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", file), os.Mkdir(b.dir, 0755)); err != nil {
		return err
	}
	out, err := exec.Command("losetup", "--show", "-f", file).Output()
	if err != nil {
		return fmt.Errorf("losetup: %w", err)
	}
	b.loop = string(bytes.TrimSpace(out))
	return command("mount", b.loop, b.dir)
}

func (b *bench) startTare() (*engine, error) {
	return b.start("tare", filepath.Join(b.o.bin, "tared"), "--data-root", b.path("tare"), "--exec-root", filepath.Join(b.tmpfs, "tare"))
}

func (b *bench) startDocker() (*engine, error) {
	config := filepath.Join(b.tmpfs, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0600); err != nil {
		return nil, err
	}
	return b.start("docker", "dockerd", "--config-file", config, "--data-root", b.path("docker"), "--exec-root", filepath.Join(b.tmpfs, "docker"),
		"--pidfile", filepath.Join(b.tmpfs, "docker.pid"), "--ip-forward=false")
}

func (b *bench) start(name, program string, args ...string) (*engine, error) {
	e := &engine{name: name, socket: filepath.Join(b.tmpfs, name+".sock")}
	log, err := os.Create(filepath.Join(b.tmpfs, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	e.cmd = exec.Command(program, append(args, "-H", "unix://"+e.socket)...)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	for range 1000 {
		if e.docker("version") == nil {
			return e, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	return e, fmt.Errorf("%s does not answer:\n%s", name, text)
}

// docker runs the docker command line against the engine.
func (e *engine) docker(args ...string) error {
	return command("docker", append([]string{"-H", "unix://" + e.socket}, args...)...)
}

// output is what the docker command line prints.
func (e *engine) output(args ...string) (string, error) {
	out, err := exec.Command("docker", append([]string{"-H", "unix://" + e.socket}, args...)...).Output()
	return string(out), err
}

// command runs a program and gives its output if it fails.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, bytes.TrimSpace(out))
	}
	return nil
}

// outputOf is what a program prints.
func outputOf(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	return string(out), err
}

// tareCLI is our own command line against our own engine.
func (b *bench) tareCLI(args ...string) error {
	return command(filepath.Join(b.o.bin, "tare"), append([]string{"-H", "unix://" + b.tare.socket}, args...)...)
}

// client is a connection-keeping client of our engine, in this process.
func (b *bench) client() (*client.Client, error) {
	if b.running == nil {
		c, err := client.New(client.Options{Host: "unix://" + b.tare.socket})
		if err != nil {
			return nil, err
		}
		b.running = c
	}
	return b.running, nil
}

// emptyProgram builds a Go program that does nothing: what any command line in
// Go costs.
func emptyProgram(path string) error {
	src := path + ".go"
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() {}\n"), 0600); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the empty program: %w: %s", err, out)
	}
	return nil
}

func (b *bench) close() error {
	var errs []error
	for _, e := range []*engine{b.tare, b.docker} {
		if e == nil || e.cmd.Process == nil {
			continue
		}
		ids, _ := exec.Command("docker", "-H", "unix://"+e.socket, "ps", "-aq").Output()
		for _, id := range bytes.Fields(ids) {
			errs = append(errs, e.docker("rm", "-f", string(id)))
		}
		e.cmd.Process.Signal(syscall.SIGTERM)
		e.cmd.Wait()
	}
	if b.tare != nil {
		errs = append(errs, command(filepath.Join(b.o.bin, "tared"), "--data-root", b.path("tare"), "--exec-root", filepath.Join(b.tmpfs, "tare"), "--uninstall"))
	}
	if b.loop != "" {
		errs = append(errs, command("umount", "-l", b.dir), command("losetup", "-d", b.loop))
	}
	if b.tmpfs != "" {
		errs = append(errs, command("umount", "-l", b.tmpfs), os.Remove(b.tmpfs))
	}
	return errors.Join(errs...)
}

// bundle writes an OCI bundle on the root file system, with runc's own default
// spec.
func (b *bench) bundle() (string, error) {
	dir := b.path("bundle")
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err == nil {
		return dir, nil // of an earlier section
	}
	if err := os.MkdirAll(dir, 0755); err != nil {
		return "", err
	}
	cmd := exec.Command("runc", "spec")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("runc spec: %w: %s", err, out)
	}
	file := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return "", err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, []string{"/bin/true"}
	spec["root"] = map[string]any{"path": b.path("rootfs"), "readonly": true}
	if raw, err = json.Marshal(spec); err != nil {
		return "", err
	}
	return dir, os.WriteFile(file, raw, 0600)
}
