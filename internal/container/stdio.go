package container

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/keeper"
)

// stdio says what a container's process gets as its streams.
func (d *Defaults) stdio(v *View, u specs.User) keeper.Stdio {
	st := keeper.Stdio{
		TTY: v.Config.Tty, Rows: uint16(v.HostConfig.ConsoleSize[0]), Cols: uint16(v.HostConfig.ConsoleSize[1]),
		Console: v.Config.Tty && isExternal(v.Record), OpenStdin: v.Config.OpenStdin, StdinOnce: v.Config.StdinOnce, UID: int(v.IDs.HostUID(u.UID)), GID: int(v.IDs.HostGID(u.GID)),
	}
	if v.HostConfig.LogConfig.Type != "none" {
		st.Log = d.logOf(v)
	}
	return st
}

// logOf says where and how the container's output is kept.
func (d *Defaults) logOf(v *View) *keeper.Log {
	o, err := spec.ParseLogOptions(v.HostConfig.LogConfig, d.LogMaxSize, d.LogMaxFile)
	if err != nil { // checked at create; a record of before is served with the defaults
		o = spec.LogOptions{MaxSize: d.LogMaxSize, MaxFiles: d.LogMaxFile, Format: spec.LogFormat(v.HostConfig.LogConfig.Type)}
	}
	attrs := spec.LogAttributes(logSubject(v), v.HostConfig.LogConfig)
	return &keeper.Log{Dir: v.ID + "/log", MaxSize: o.MaxSize, MaxFiles: o.MaxFiles, Compress: o.Compress, Attrs: attrs, Format: o.Format}
}
