package main

import (
	"os"

	"github.com/tare-engine/tare/internal/build/gitbox"
)

// exitGit is what git ends with when it cannot begin.
const exitGit = 128

// runGit is no command of runc's, and in no help: the script of package gitbox, and
// nobody else, says `git BIN CACHE TMP ARG...`.
func runGit(args []string) int {
	if len(args) < 3 {
		os.Stderr.WriteString("tare-runtime git: want BIN CACHE TMP ARG...\n")
		return exitFailure
	}
	if err := gitbox.Run(gitbox.Dirs{Bin: args[0], Cache: args[1], Tmp: args[2]}, args[3:]); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return exitGit
	}
	return 0
}
