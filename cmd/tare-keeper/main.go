// Command tare-keeper is the parent of all containers of one engine: it
// spawns, waits, owns stdio, writes logs and exit records. See package keeper.
package main

import (
	"os"

	"github.com/tare-engine/tare/internal/keeper"
)

func main() { os.Exit(keeper.Main(os.Args, os.Stderr)) }
