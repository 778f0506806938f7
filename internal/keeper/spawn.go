package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
)

// spawnTimeout is how long a new keeper may take until its socket answers.
const spawnTimeout = 10 * time.Second

// Spawn starts the keeper program at path for an exec root, detached in a
// process session of its own, and returns when its socket answers. The keeper
// goes on when the caller ends; while both live, the caller is its parent.
// More arguments go to the program as they are.
func Spawn(ctx context.Context, path, execRoot string, args ...string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(SocketPath(execRoot))
	if err := os.MkdirAll(execRoot, 0o710); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	logPath := filepath.Join(dir, "log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, append([]string{"--exec-root", execRoot}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, wire.KeptEnv()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	died := make(chan error, 1)
	go func() { died <- cmd.Wait() }() // as long as the keeper and we live
	ctx, cancel := context.WithTimeout(ctx, spawnTimeout)
	defer cancel()
	if err := awaitSocket(ctx, execRoot, died); err != nil {
		if ctx.Err() != nil { // it runs, and nothing was asked of it yet
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		return fmt.Errorf("start %s (its log is %s): %w", path, logPath, err)
	}
	return nil
}

// awaitSocket connects until somebody answers.
func awaitSocket(ctx context.Context, execRoot string, died <-chan error) error {
	for {
		if Answers(execRoot) {
			return nil
		}
		select {
		case err := <-died:
			if err == nil {
				err = errors.New("exit status 0")
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Answers reports whether a keeper serves the exec root.
func Answers(execRoot string) bool {
	_, err := Ask(context.Background(), execRoot)
	return err == nil
}

// Identity is what a keeper says about itself.
type Identity = wire.HelloReply

// Ask asks the keeper of an exec root who it is. It must say so: the socket of
// one that has just been killed still accepts for a moment.
func Ask(ctx context.Context, execRoot string) (id Identity, err error) {
	w, err := ask(ctx, execRoot, wire.OpPing, time.Second)
	if err != nil {
		return id, err
	}
	defer w.Close()
	m, err := w.Receive()
	if err != nil {
		return id, err
	}
	defer m.Close()
	if m.Op != wire.OpReply {
		return id, fmt.Errorf("%v instead of an answer", m.Op)
	}
	return id, m.Unmarshal(&id)
}
