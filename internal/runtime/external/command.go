package external

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// patience is how long a command that changes a running container may take.
const patience = 30 * time.Second

// Kill sends a signal to the container's first process.
func (c *Container) Kill(sig syscall.Signal) error {
	return c.run("kill", c.ID, strconv.Itoa(int(sig)))
}

// Pause freezes the container's processes.
func (c *Container) Pause() error { return c.run("pause", c.ID) }

// Resume thaws what Pause froze.
func (c *Container) Resume() error { return c.run("resume", c.ID) }

// Update changes the limits that r sets.
func (c *Container) Update(r *specs.LinuxResources) error {
	if err := c.write("resources.json", r); err != nil {
		return err
	}
	return c.run("update", "--resources", c.path("resources.json"), c.ID)
}

// Delete ends what is left of the container and removes it: the runtime's state,
// its control groups, the bundle. It may be called again.
func (c *Container) Delete() error {
	state := c.state() + "/" + c.ID
	if _, err := os.Lstat(state); err == nil {
		err := c.run("delete", "--force", c.ID)
		if _, there := os.Lstat(state); there == nil {
			return err // with the bundle, for another try
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(c.path())
}

// run executes a command of the runtime. Its error has Docker's form.
func (c *Container) run(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	log := c.path("log.json")
	argv := c.command(log, args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = c.path(), environment()
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	before := size(log)
	err := cmd.Run()
	if err == nil {
		return nil
	}
	said := lastError(log, before)
	if said == "" {
		said = strings.TrimSpace(stderr.String())
	}
	if said == "" {
		said = err.Error()
	}
	return fmt.Errorf("OCI runtime %s failed: %s", args[0], said)
}
