// Package tare is the root of a container engine for Linux. It holds only
// arch_test.go, which keeps the imports of the tree going down; README.md and
// ARCHITECTURE.md say where to begin.
package tare
