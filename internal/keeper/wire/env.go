package wire

import (
	"os"
	"strings"
)

// KeptEnv is the part of the environment that the keeper itself may need; no
// child ever sees it.
func KeptEnv() []string {
	// A keeper linked with glibc (a build with the race detector) would have
	// rseq registered, in memory that nurseries unmap.
	out := []string{"GLIBC_TUNABLES=glibc.pthread.rseq=0"}
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "TARE_") || strings.HasPrefix(e, "GO") {
			out = append(out, e)
		}
	}
	return out
}
