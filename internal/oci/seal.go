package oci

import (
	"os"

	"github.com/tare-engine/tare/internal/linux/memfd"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Seal makes sure that no container can write to the program that starts it
// (CVE-2019-5736). On most kernels children get another executable, and there
// is nothing to do; on others Seal replaces the running program by a copy that
// nobody can change. That costs the start of a program, once.
func Seal() error {
	if spawn.CanDisguise() || sealed() {
		return nil
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer f.Close()
	program, err := memfd.Program("tare-runtime", f)
	if err != nil {
		return err
	}
	return memfd.Exec(program, os.Args, os.Environ())
}

// sealed reports whether the running program can never change.
func sealed() bool {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer f.Close()
	return memfd.Sealed(f)
}
