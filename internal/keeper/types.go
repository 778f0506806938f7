package keeper

import "github.com/tare-engine/tare/internal/keeper/wire"

// What goes to the keeper and comes from it; see package wire.
type (
	Start     = wire.Start
	Stdio     = wire.Stdio
	Log       = wire.Log
	Client    = wire.Client
	Files     = wire.Files
	Process   = wire.Process
	Exit      = wire.Exit
	StepError = wire.StepError
)

// SocketPath is where the keeper of an exec root listens.
func SocketPath(execRoot string) string { return wire.SocketPath(execRoot) }
