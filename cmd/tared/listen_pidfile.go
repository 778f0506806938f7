package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// writePIDFile writes our process id to path and returns what removes it. A
// file left by an engine that was killed is replaced; the id in it may belong
// to some other program by now, which does not stop us.
func writePIDFile(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if pid := engineIn(path); pid != 0 {
		return nil, fmt.Errorf("pidfile %s: process with PID %d is still running", path, pid)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("pidfile: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("pidfile: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("pidfile: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

// engineIn returns the process id in a file if a program of our name has it.
func engineIn(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 || pid == os.Getpid() {
		return 0
	}
	theirs, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	ours, _ := os.ReadFile("/proc/self/comm")
	if err != nil || string(theirs) != string(ours) {
		return 0
	}
	return pid
}
