// Command tared is the engine: it decides everything and may be killed,
// restarted and upgraded at any time. main.go is its life, wire.go puts its
// parts together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/plugin"
	"github.com/tare-engine/tare/internal/server"
)

// Set by the linker.
var version, commit, built = "dev", "unknown", ""

// init keeps the process's first thread for main: it cannot end, and is what /proc/self
// shows. So it is never one of those that go to other namespaces for good.
func init() { runtime.LockOSThread() }

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "tared:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	cfg, err := parseArgs(args, os.Stderr)
	if err != nil {
		return err
	}
	if cfg.ShowVersion {
		fmt.Printf("Tare version %s, build %s\n", version, commit)
		return nil
	}
	if cfg.Validate {
		return validate(cfg)
	}
	var level slog.LevelVar
	slog.SetDefault(cfg.newLogger(os.Stderr, &level))
	logrus.SetOutput(io.Discard) // of containerd's libraries: what matters comes back as an error
	lock, err := lockRoots(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	if cfg.Uninstall {
		return uninstall(cfg)
	}
	return serve(cfg, &level)
}

// validate looks for what a start would find out of the configuration alone.
func validate(cfg *Config) error {
	if cfg.TLSCert != "" {
		if err := new(certificates).load(cfg); err != nil {
			return err
		}
	}
	if _, err := cfg.Registries.client(); err != nil {
		return err
	}
	if _, err := cfg.runtimes(); err != nil {
		return err
	}
	if _, err := groupID(cfg.Group); err != nil {
		return err
	}
	fmt.Println("configuration OK")
	return nil
}

// raiseLimits lets the engine have a descriptor for each published port and more. It is
// best effort: what the kernel refuses, a client is told.
func raiseLimits() {
	const files = 1 << 20
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files, Max: files})
}

// serve is the engine's life: boot, answer, stop. Containers outlive it.
func serve(cfg *Config, level *slog.LevelVar) error {
	tuneCollector()
	go newTrimmer().run()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	raiseLimits()

	if cfg.PIDFile != "" {
		remove, err := writePIDFile(cfg.PIDFile)
		if err != nil {
			return err
		}
		defer remove()
	}
	// The children of a keeper that dies become ours, and their exit codes with
	// them: package keeper reaps them.
	if err := process.Subreaper(); err != nil {
		return err
	}
	began := time.Now()
	p, err := assemble(context.Background(), cfg)
	if err != nil {
		return err
	}
	defer p.end()
	ends, err := listen(cfg)
	if err != nil {
		return err
	}
	defer ends.close()
	numbers, err := serveMetrics(cfg.MetricsAddr, p.engine)
	if err != nil {
		return err
	}
	defer numbers.close()
	authz := server.NewAuthorization(plugin.Docker())
	if err := authz.Check(context.Background(), cfg.AuthzPlugins); err != nil {
		return err
	}
	authz.Set(cfg.AuthzPlugins)
	srv := server.New(p.engine, server.Config{Version: version, Names: ends.names(), DataRoot: cfg.DataRoot, Debug: cfg.Debug, Observe: numbers.observe, Authorization: authz})
	failed := make(chan error, len(ends.listeners))
	for _, l := range ends.listeners {
		go func() { failed <- srv.Serve(l) }()
	}
	notifySystemd("READY=1")
	slog.Info("ready", "hosts", cfg.Hosts, "after", time.Since(began).Round(time.Microsecond))
	for {
		select {
		case err := <-failed:
			return err
		case s := <-signals:
			if s == syscall.SIGHUP {
				cfg = reload(cfg, ends, authz, p, level)
				continue
			}
			slog.Info("stop", "signal", s.String())
			notifySystemd("STOPPING=1")
			ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
			defer cancel()
			return srv.Shutdown(ctx)
		}
	}
}

// stopPatience is how long requests may take to end when the engine stops.
const stopPatience = 10 * time.Second

// reload reads the configuration again. After an error all of the old one stays: what can
// fail comes first.
func reload(cfg *Config, ends *endpoints, authz *server.Authorization, p *parts, level *slog.LevelVar) *Config {
	next, err := cfg.reload()
	var take func()
	if err == nil {
		take, err = p.reload(next)
	}
	if err == nil {
		err = authz.Check(context.Background(), next.AuthzPlugins)
	}
	if err == nil {
		err = ends.reload(next)
	}
	if err != nil {
		slog.Error("reload: the configuration in force is kept", "err", err)
		return cfg
	}
	authz.Set(next.AuthzPlugins)
	take()
	level.Set(next.level())
	if names := cfg.needRestart(next); len(names) > 0 {
		slog.Warn("reload: these settings take effect at the next start", "keys", names)
	}
	slog.Info("reloaded", "file", next.ConfigFile)
	return next
}
