package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/memfd"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// Main is the keeper's program; release names it for people. It returns the
// exit status.
//
// It begins twice: as the file it was started from it only prepares, then it
// executes a sealed copy of itself in memory. A container whose program is
// /proc/self/exe would otherwise run, or overwrite, the keeper's own file.
func Main(args []string, release string, stderr io.Writer) int {
	fs := flag.NewFlagSet("tare-keeper", flag.ContinueOnError)
	fs.SetOutput(stderr)
	root := fs.String("exec-root", "/run/tare", "directory of the socket and of what lives only as long as this boot")
	level := fs.String("log-level", "info", "debug, info, warn or error")
	state := fs.Int("state", -1, "descriptor of the state of the program before this one (upgrade)")
	back := fs.Bool("back", false, "the state is this program's own: another one could not take it over")
	takes := fs.Int("takes-state", -1, "say whether this program could go on for one with a state of that version, and exit")
	version := fs.Bool("version", false, "print the version and exit")
	if err := fs.Parse(args[1:]); err != nil {
		return 2
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(*level)); err != nil || fs.NArg() > 0 || *root == "" {
		fmt.Fprintln(stderr, "usage: tare-keeper [--exec-root DIR] [--log-level LEVEL]")
		return 2
	}
	if *version {
		fmt.Println("Tare version", release)
		return 0
	}
	if *takes >= 0 {
		if *takes != stateVersion {
			fmt.Fprintf(stderr, "it takes over states of version %d only, not %d\n", stateVersion, *takes)
			return 1
		}
		fmt.Println(wire.TakesState(*takes))
		return 0
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: l}))
	o := options{root: *root, level: *level, release: release, back: *back}
	if *state >= 0 {
		o.state = given(*state, "state")
	}
	if err := run(args, o, log); err != nil {
		log.Error("keeper ends", "error", err)
		return 1
	}
	return 0
}

// options are what the program is begun with.
type options struct {
	root, level string
	release     string
	state       *os.File // of the program before; nil: there was none
	back        bool     // which was this one
}

func run(args []string, o options, log *slog.Logger) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	if !memfd.Sealed(self) {
		return prepare(self, args, o.root)
	}
	if err := process.Hide(); err != nil {
		return fmt.Errorf("hide: %w", err)
	}
	// What an OCI runtime leaves behind becomes our child.
	if err := process.Subreaper(); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	// A log that nobody reads any more must not end the keeper.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT) // before an upgrade is over too
	var k *Keeper
	if o.state != nil {
		k, err = reopen(o, log)
	} else {
		k, err = Open(o, log)
	}
	if err != nil {
		return err
	}
	// The sealed copy was executed by the number of its descriptor.
	_ = os.WriteFile("/proc/self/comm", []byte("tare-keeper"), 0)
	go k.endOnSignal(ends)
	log.Info("keeper is ready", "pid", os.Getpid(), "exec-root", o.root, "release", o.release, "upgraded", o.state != nil)
	return k.Serve()
}

// prepare makes the keeper's surroundings and executes its sealed copy. The
// calling thread's mount namespace is that of the program it executes.
func prepare(self *os.File, args []string, root string) error {
	runtime.LockOSThread()
	if err := openStdio(); err != nil {
		return err
	}
	if _, err := syscall.Setsid(); err != nil && !errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("setsid: %w", err) // EPERM: it leads one already
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o710); err != nil {
		return err
	}
	if err := ownMounts(root); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	raiseLimits()
	copied, err := memfd.Program("tare-keeper", self)
	if err != nil {
		return err
	}
	return memfd.Exec(copied, args, wire.KeptEnv())
}

// openStdio fills 0 to 2: a nursery relies on their being open.
func openStdio() error {
	for {
		f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		fd, err := rawfd.Number(f)
		if err != nil || fd > 2 {
			return errors.Join(err, f.Close())
		}
		if _, err := syscall.Dup(fd); err != nil { // stays open when f closes
			return err
		}
	}
}

// raiseLimits is best effort: what the kernel refuses, tare does without.
func raiseLimits() {
	const files = 1 << 20
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files, Max: files})
	// Nurseries go back to 0, so that no child inherits it.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-950"), 0)
}

// endOnSignal ends an idle keeper. One with processes stays until the last has gone: an
// engine that stops may be quicker than what it has just ended. If there is an engine
// then, that one decides.
func (k *Keeper) endOnSignal(c <-chan os.Signal) {
	for sig := range c {
		for {
			select {
			case <-k.children.emptied: // of before
			default:
			}
			k.concluding.Lock()
			err := k.shutdown()
			k.concluding.Unlock()
			if err == nil {
				os.Exit(0)
			}
			k.log.Warn("not yet at an end", "signal", sig, "error", err)
			select {
			case <-k.children.emptied:
			case sig = <-c:
				continue
			}
			if k.engine.stays() {
				break
			}
		}
	}
}
