package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// beside is a command of a program of ours that lies beside this one, or else in PATH,
// with our streams: for become.
func (c *cli) beside(name string, args []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath(filepath.Join(filepath.Dir(self), name))
	if err != nil {
		path, err = exec.LookPath(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s must lie beside %s or in PATH: %w", name, self, err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.out, c.err
	return cmd, nil
}
