package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/memfd"
)

// Renewal has a keeper go on as the program that the engine has beside it: the
// engine was replaced by another version, and the keeper has still been running.
//
// Programs are compared by their digests. A keeper that speaks a newer protocol
// than this engine is left as it is, for an older program may not know what it
// has to hand over. A program is replaced once: when it is there again, somebody
// else wants it (another engine at the same exec root, a unit that starts it),
// and the two would go on for ever.
type Renewal struct {
	Program string // path; "": the engine has none, and no keeper is renewed

	mu       sync.Mutex
	replaced map[string]bool // programs, by digest; +checklocks:mu
}

// renewPatience is how long an upgrade may take. The keeper itself waits for
// starts in flight, and gives up before.
const renewPatience = 40 * time.Second

// Renewed says what a keeper has become.
type Renewed struct {
	Pid      int
	From, To string // releases
}

// Renew upgrades the keeper of an exec root if it runs another program, and
// returns nil if there was nothing to do, or no keeper. After an error the
// keeper goes on as it was, unless nobody answers in the exec root any more.
func (r *Renewal) Renew(ctx context.Context, execRoot, engineID string) (*Renewed, error) {
	if r.Program == "" {
		return nil, nil
	}
	was, err := Ask(ctx, execRoot)
	if err != nil {
		return nil, nil // there is none
	}
	if same, err := r.isProgram(was.Program); same || err != nil {
		return nil, err
	}
	if err := r.mayReplace(was); err != nil {
		return nil, err
	}
	program, digest, err := openProgram(r.Program)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	if err := rehearse(ctx, program, max(was.State, 1)); err != nil {
		return nil, fmt.Errorf("the program %s cannot take over: %w", r.Program, err)
	}
	ctx, cancel := context.WithTimeout(ctx, renewPatience)
	defer cancel()
	// Nobody listens: what happens meanwhile is told to the connection after it.
	conn, err := dial(ctx, SocketPath(execRoot), Hello{EngineID: engineID}, deaf{})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	failpoint.Hit("upgrade/dialed")
	is, err := conn.upgrade(ctx, program, digest)
	if err != nil && !errors.Is(err, ErrLost) && ctx.Err() == nil {
		r.forget(was) // it has refused: later, perhaps
	}
	if err == nil && is.Program != digest {
		err = fmt.Errorf("it could not take over: %s goes on", is.Release)
	}
	if err != nil {
		return nil, err
	}
	return &Renewed{Pid: is.Pid, From: was.Release, To: is.Release}, nil
}

// isProgram reports whether our program has that digest.
func (r *Renewal) isProgram(digest string) (bool, error) {
	f, err := openExecutable(r.Program)
	if err != nil {
		return false, err
	}
	defer f.Close()
	ours, err := wire.ProgramDigest(f)
	return ours == digest, err
}

// mayReplace notes that a keeper's program is to be replaced, or says why not.
func (r *Renewal) mayReplace(was Identity) error {
	if was.Version > wire.ProtocolVersion {
		return fmt.Errorf("it is newer than this engine: it speaks protocol %d, and this engine %d", was.Version, wire.ProtocolVersion)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.replaced[was.Program] {
		return fmt.Errorf("this engine has replaced that program before, or has tried to: somebody starts it again")
	}
	if r.replaced == nil {
		r.replaced = map[string]bool{}
	}
	r.replaced[was.Program] = true
	return nil
}

func (r *Renewal) forget(was Identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.replaced, was.Program)
}

// openExecutable opens a file that could be executed.
func openExecutable(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be anything
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0) {
		err = fmt.Errorf("%s is no executable file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openProgram returns a sealed copy of a program: what is compared, tried and
// sent cannot change on the way.
func openProgram(path string) (program *os.File, digest string, err error) {
	f, err := openExecutable(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if program, err = memfd.Program("tare-keeper", f); err != nil {
		return nil, "", err
	}
	size, err := program.Seek(0, io.SeekCurrent)
	if err == nil {
		digest, err = wire.ProgramDigest(io.NewSectionReader(program, 0, size))
	}
	if err != nil {
		program.Close()
		return nil, "", err
	}
	return program, digest, nil
}

// rehearse asks a program whether it takes over a state of that version: one that
// is cut short, of another machine or no keeper at all would leave none.
func rehearse(ctx context.Context, program *os.File, state int) error {
	var magic [4]byte
	if _, err := program.ReadAt(magic[:], 0); err != nil || string(magic[:]) != "\x7fELF" {
		return errors.New("it is no ELF program") // a script would ask for an interpreter where there is none
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/fd/3", "--takes-state", strconv.Itoa(state))
	cmd.ExtraFiles = []*os.File{program}
	cmd.Env = wire.KeptEnv()
	var out beginning
	cmd.Stdout, cmd.Stderr = &out, &out
	// Whatever it leaves running has its output, and would be waited for.
	cmd.SysProcAttr, cmd.WaitDelay = &syscall.SysProcAttr{Setpgid: true}, time.Second
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	said := strings.TrimSpace(string(bytes.ToValidUTF8(out, nil)))
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	if said != wire.TakesState(state) {
		return fmt.Errorf("it is no keeper: asked whether it takes over, it says %q", said)
	}
	return nil
}

// beginning keeps the first bytes of what is written to it.
type beginning []byte

func (b *beginning) Write(p []byte) (int, error) {
	const most = 500
	*b = append(*b, p[:min(len(p), most-len(*b))]...)
	return len(p), nil
}

// upgrade replaces the keeper's program. It returns when the new one serves
// this connection, or the old one does again; what runs does not notice.
func (c *Conn) upgrade(ctx context.Context, program *os.File, digest string) (is Identity, err error) {
	_, err = c.call(ctx, wire.OpUpgrade, wire.UpgradeDoc{Program: digest}, nil, []*os.File{program}, &is, nil)
	if err == nil {
		c.ver.Store(int64(is.Version))
	}
	return is, err
}

// Upgrade replaces the keeper's program by that at path, whichever it has.
func (c *Conn) Upgrade(ctx context.Context, path string) error {
	program, digest, err := openProgram(path)
	if err != nil {
		return err
	}
	defer program.Close()
	is, err := c.upgrade(ctx, program, digest)
	if err == nil && is.Program != digest {
		err = fmt.Errorf("the program could not take over: %s goes on", is.Release)
	}
	return err
}

// deaf are events that nobody hears.
type deaf struct{}

func (deaf) Exited(Exit)                   {}
func (deaf) Detached(string, uint64)       {}
func (deaf) StdinClosed(string)            {}
func (deaf) LogLost(string, int64, string) {}
func (deaf) Lost(error)                    {}
