package cgroup

import "math"

// weightOf turns version 1's shares (2 to 262144, 1024 by default) into
// version 2's weight (1 to 10000, 100 by default). A straight line would map
// the default to 39, below every group that was not asked for anything; the
// curve through all three pairs is the one that runtimes have agreed on:
// log10(weight) = (log2(shares)² + 125·log2(shares)) / 612 - 7/34.
func weightOf(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	x := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (x*x+125*x)/612-7.0/34)))
}
