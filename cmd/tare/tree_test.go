package main

import (
	"os"
	"testing"
)

// BenchmarkTree measures what is built before a command runs. The subtree of
// run is the largest: a hundred flags.
func BenchmarkTree(b *testing.B) {
	for _, args := range [][]string{{"run", "--rm", "busybox", "true"}, {"ps"}, {"container", "ls"}, {}} {
		name := "all"
		if len(args) > 0 {
			name = args[0]
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				newRootCommand(&cli{in: os.Stdin, out: os.Stdout, err: os.Stderr, tree: commands}, args)
			}
		})
	}
}
