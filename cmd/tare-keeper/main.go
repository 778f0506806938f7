// Command tare-keeper is the parent of all containers of one engine: it
// spawns, waits, owns stdio, writes logs and exit records. See package keeper.
package main

import (
	"os"

	"github.com/tare-engine/tare/internal/keeper/server"
)

// Set by the linker.
var version, commit = "dev", "unknown"

func main() {
	os.Exit(server.Main(os.Args, version+", build "+commit, os.Stderr))
}
