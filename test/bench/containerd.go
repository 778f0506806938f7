package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// startContainerd starts Debian's containerd for ctr. CRI is left out: it asks
// for network plugins and has no part in images.
func (b *bench) startContainerd() (p puller, stop func(), err error) {
	socket := filepath.Join(b.tmpfs, "containerd.sock")
	config := filepath.Join(b.tmpfs, "containerd.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		b.path("containerd"), filepath.Join(b.tmpfs, "containerd"), socket)
	if err := os.WriteFile(config, []byte(text), 0600); err != nil {
		return p, nil, err
	}
	log, err := os.Create(filepath.Join(b.tmpfs, "containerd.log"))
	if err != nil {
		return p, nil, err
	}
	defer log.Close()
	cmd := exec.Command("containerd", "-c", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return p, nil, fmt.Errorf("apt-get install containerd: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it ends by the signal
	}
	ctr := func(args ...string) error { return command("ctr", append([]string{"-a", socket}, args...)...) }
	for range 1000 {
		if ctr("version") == nil {
			return puller{"ctr", func(args ...string) error { return ctr(imagesOfCtr(args)...) }}, stop, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	out, _ := os.ReadFile(log.Name())
	return p, nil, fmt.Errorf("containerd does not answer:\n%s", out)
}

// imagesOfCtr is a command of docker's in the words of ctr.
func imagesOfCtr(args []string) []string {
	switch args[0] {
	case "pull", "push": // -q REF
		return []string{"images", args[0], "--plain-http", args[2]}
	case "rmi":
		return append([]string{"images", "rm", "--sync"}, args[1:]...)
	case "load": // -q -i FILE
		return []string{"images", "import", args[3]}
	case "save": // -o FILE REF
		return append([]string{"images", "export"}, args[2:]...)
	}
	if args[0] == "tag" { // of the last round it may be there
		return append([]string{"images", "tag", "--force"}, args[1:]...)
	}
	return append([]string{"images"}, args...)
}
