package main

import (
	"io"
	"log/slog"
	"slices"

	"github.com/tare-engine/tare/internal/engine"
	"github.com/tare-engine/tare/internal/runtime/external"
)

// reload reads the configuration file again, with the same command line. After
// an error c stays in force.
func (c *Config) reload() (*Config, error) {
	return parseArgs(c.args, io.Discard)
}

// live is the part of c that the engine takes into use while it runs.
func (c *Config) live() engine.Live {
	return engine.Live{
		Containers: c.Containers.defaults(), Labels: c.Labels, SeccompProfile: c.Containers.SeccompProfile, Authorization: c.AuthzPlugins,
		Registries: c.Registries.info(), Foreign: c.Registries.Foreign, Uploads: int(c.Registries.Uploads),
	}
}

// runtimes are those that containers may ask for.
func (c *Config) runtimes() (*external.Runtimes, error) {
	return external.NewRuntimes(c.Runtimes, c.DefaultRun)
}

// liveSettings take effect without a restart.
var liveSettings = []string{
	"authorization-plugins", "debug", "labels", "log-level", "tlscacert", "tlscert", "tlskey",
	"cgroup-parent", "default-cgroupns-mode", "default-ipc-mode", "default-shm-size", "default-ulimits", "init", "log-driver", "log-opts", "no-new-privileges", "seccomp-profile",
	"default-runtime", "runtimes",
	"allow-nondistributable-artifacts", "http-proxy", "https-proxy", "insecure-registries", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "no-proxy",
	"registry-certs-dirs", "registry-mirrors", "registry-rate-limit",
}

// needRestart names the settings that differ between c and its successor and
// will not change before a restart.
func (c *Config) needRestart(next *Config) []string {
	var names []string
	now, then := c.options(), next.options()
	for i, o := range now {
		if _, ok := o.value.(absentValue); ok || o.key == "" || slices.Contains(liveSettings, o.key) {
			continue
		}
		if o.value.String() != then[i].value.String() {
			names = append(names, o.key)
		}
	}
	return names
}

// levelFatal is above all that the engine logs while it lives.
const levelFatal = slog.LevelError + 4

// level is the level of the log.
func (c *Config) level() slog.Level {
	if c.Debug {
		return slog.LevelDebug
	}
	return map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError, "fatal": levelFatal,
	}[c.LogLevel]
}

// newLogger returns a logger in the format of c. Both formats quote what comes
// from clients and images, so that nothing in a name forges a line. level may
// change later.
func (c *Config) newLogger(w io.Writer, level *slog.LevelVar) *slog.Logger {
	level.Set(c.level())
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
