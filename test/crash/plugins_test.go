//go:build root && failpoint

package crash

import (
	"slices"

	"github.com/tare-engine/tare/test/fixture/plugin"
)

// pluginSockets is where engines look for plugins.
const pluginSockets = "/run/docker/plugins"

// startPlugin starts a volume plugin, which outlives engines. It is called as the box, and so
// is its volume: all boxes see it.
func startPlugin(b *box) {
	if b.plugin != nil {
		return
	}
	var err error
	if b.plugin, err = plugin.Start(pluginSockets+"/"+b.netns+".sock", b.path("plugin"), "local"); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.plugin.Stop() })
}

// pluginVolume makes a volume of a plugin.
func pluginVolume(b *box) {
	startPlugin(b)
	b.must("volume", "create", "-d", b.netns, b.netns)
}

// countedByPlugin checks that the plugin counts a container's mount as long as that runs.
func (b *box) countedByPlugin() {
	b.t.Helper()
	var users, want []string
	b.soon(func() bool {
		users, _ = b.plugin.Users(b.netns)
		want = nil
		if b.state("box") == "running" {
			want = []string{b.must("inspect", "-f", "{{.Id}}", "box")}
		}
		return slices.Equal(users, want)
	})
	if !slices.Equal(users, want) {
		b.t.Errorf("the plugin has the volume mounted for %q, want %q", users, want)
	}
	b.must("rm", "-f", "box")
	b.must("volume", "rm", b.netns)
	b.noVolumeOfPlugin()
}

func (b *box) noVolumeOfPlugin() {
	b.t.Helper()
	if users, there := b.plugin.Users(b.netns); there {
		b.t.Errorf("a volume was removed, and the plugin has it, mounted by %v", users)
	}
}

var pluginOperations = []operation{
	{"volume create with a plugin", startPlugin,
		func(b *box) error { return b.try("volume", "create", "-d", b.netns, "--label", "a=b", b.netns) },
		func(b *box, ack bool) {
			labels, err := b.tare("volume", "inspect", "-f", "{{.Labels.a}}", b.netns)
			if ack && (err != nil || labels != "b") {
				b.t.Errorf("a volume was acknowledged: %q, %v", labels, err)
			}
			b.must("volume", "rm", "-f", b.netns)
			b.noVolumeOfPlugin()
		}},
	{"volume rm with a plugin", pluginVolume,
		func(b *box) error { return b.try("volume", "rm", b.netns) },
		func(b *box, ack bool) {
			if _, absent := b.tare("volume", "inspect", b.netns); ack && absent == nil {
				b.t.Error("the removal of a volume was acknowledged, and it is there")
			}
			b.must("volume", "rm", "-f", b.netns)
			b.noVolumeOfPlugin()
		}},
	{"start with a volume of a plugin", func(b *box) {
		pluginVolume(b)
		b.must("create", "--name", "box", "-v", b.netns+":/d", "--rootfs", b.rootfs(), "sleep", "1000")
	},
		func(b *box) error { return b.try("start", "box") },
		func(b *box, ack bool) {
			b.present("box", true)
			b.countedByPlugin()
		}},
	{"stop with a volume of a plugin", func(b *box) {
		pluginVolume(b)
		b.must("run", "-d", "--name", "box", "-v", b.netns+":/d", "--rootfs", b.rootfs(), "sleep", "1000")
	},
		func(b *box) error { return b.try("stop", "-t", "0", "box") },
		func(b *box, ack bool) { b.countedByPlugin() }},
}
