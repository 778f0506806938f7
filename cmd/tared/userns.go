package main

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"

	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/idmap"
)

// ids are which ids of the host the containers have.
type ids struct {
	remap *idrange.Map  // of those that do not say otherwise; nil: the host's
	pool  *idrange.Pool // of those that want a range of their own
}

// hostIDs reads the host's ranges. What was asked for and cannot be had is an
// error: containers would have more rights than their owner thinks.
func hostIDs(ctx context.Context, cfg *Config, layers *layer.Service) (i ids, err error) {
	h := idrange.Host{Etc: "/etc"}
	h.MakeUser = func(name string) error { return makeRemapUser(h, name) }
	if i.pool, err = h.AutoRange(cfg.UsernsRange); err != nil || cfg.UsernsRemap == "" {
		return i, err
	}
	m, user, err := h.Remap(cfg.UsernsRemap)
	switch {
	case err != nil:
		return i, err
	case m == nil:
		slog.Warn("User namespaces: root cannot be remapped with itself; user namespaces are OFF")
		return i, nil
	}
	slog.Info("User namespaces: ID ranges will be mapped to subuid/subgid ranges of: " + user)
	i.remap = m
	r := []idmap.Range{{Inside: 0, Outside: int(m.UIDs[0].HostID), Size: 1}}
	ns, err := idmap.Open(r, r)
	if err == nil {
		defer ns.Close()
		err = layers.MapsIDs(ctx, ns)
	}
	if err != nil {
		err = fmt.Errorf("userns-remap: %w", err)
	}
	return i, err
}

// makeRemapUser makes the user that "default" means, as dockerd does.
func makeRemapUser(h idrange.Host, name string) error {
	if err := runTool("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", name); err != nil {
		return err
	}
	if _, err := h.Of(name); err == nil {
		return nil // useradd gave it ranges
	}
	first, err := h.Free()
	if err != nil {
		return err
	}
	r := fmt.Sprintf("%d-%d", first, first+idrange.DefaultSize-1)
	return runTool("usermod", "--add-subuids", r, "--add-subgids", r, name)
}

func runTool(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
