package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/oci"
)

func runState(a *app, _ values, args []string) (int, error) {
	c, err := a.root.Open(args[0])
	if err != nil {
		return 0, err
	}
	s, err := c.State()
	if err != nil {
		return 0, err
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return 0, err
	}
	_, err = os.Stdout.Write(append(b, '\n'))
	return 0, err
}

func runList(a *app, f values, _ []string) (int, error) {
	all, err := a.root.List()
	if err != nil {
		return 0, err
	}
	var states []*oci.State
	for _, c := range all {
		s, err := c.State()
		if err != nil {
			a.warn("%s: %v", c.ID, err)
			continue
		}
		s.Owner = ownerName(c.Owner)
		states = append(states, s)
	}
	switch format := f.text("format", "table"); {
	case f.has("quiet"):
		for _, s := range states {
			os.Stdout.WriteString(s.ID + "\n")
		}
	case format == "table":
		os.Stdout.WriteString(table(states))
	case format == "json":
		return 0, json.NewEncoder(os.Stdout).Encode(states)
	default:
		return 0, errors.New("invalid format option")
	}
	return 0, nil
}

func ownerName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "#" + strconv.Itoa(uid)
}

// table prints columns of at least 12 characters, three apart.
func table(states []*oci.State) string {
	rows := [][]string{{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}}
	for _, s := range states {
		rows = append(rows, []string{s.ID, strconv.Itoa(s.Pid), string(s.Status), s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner})
	}
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, v := range r {
			width[i] = max(width[i], len(v)+3, 12)
		}
	}
	var b strings.Builder
	for _, r := range rows {
		for i, v := range r {
			b.WriteString(v)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-len(v)))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func runKill(a *app, f values, args []string) (int, error) {
	c, err := a.root.Open(args[0])
	if err != nil {
		return 0, err
	}
	name := "SIGTERM"
	if len(args) > 1 {
		name = args[1]
	}
	sig, err := parseSignal(name)
	if err != nil {
		return 0, err
	}
	return 0, c.Kill(sig, f.has("all"))
}

func runPause(a *app, _ values, args []string) (int, error) {
	c, err := a.root.Lock(args[0])
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return 0, c.Pause()
}

func runResume(a *app, _ values, args []string) (int, error) {
	c, err := a.root.Lock(args[0])
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return 0, c.Resume()
}

func runPs(a *app, f values, args []string) (int, error) {
	c, err := a.root.Open(args[0])
	if err != nil {
		return 0, err
	}
	if s, err := c.Status(); err != nil {
		return 0, err
	} else if s == oci.Stopped {
		return 0, oci.ErrNotRunning
	}
	pids, err := c.Pids()
	if err != nil {
		return 0, err
	}
	switch f.text("format", "table") {
	case "json":
		return 0, json.NewEncoder(os.Stdout).Encode(pids)
	case "table":
		return 0, psTable(pids, args[1:])
	}
	return 0, errors.New("invalid format option")
}

// psTable runs the host's ps and keeps the container's lines.
func psTable(pids []int, args []string) error {
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := output("ps", args)
	if err != nil {
		return err
	}
	lines := strings.Split(out, "\n")
	column := -1
	for i, title := range strings.Fields(lines[0]) {
		if title == "PID" {
			column = i
		}
	}
	if column < 0 {
		return errors.New("couldn't find PID field in ps output")
	}
	mine := map[string]bool{}
	for _, p := range pids {
		mine[strconv.Itoa(p)] = true
	}
	os.Stdout.WriteString(lines[0] + "\n")
	for _, l := range lines[1:] {
		if f := strings.Fields(l); len(f) > column && mine[f[column]] {
			os.Stdout.WriteString(l + "\n")
		}
	}
	return nil
}

// output runs a program found in PATH and returns what it prints.
func output(name string, args []string) (string, error) {
	for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		p := dir + "/" + name
		if st, err := os.Stat(p); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return "", err
		}
		defer r.Close()
		proc, err := os.StartProcess(p, append([]string{name}, args...), &os.ProcAttr{Files: []*os.File{nil, w, os.Stderr}})
		w.Close()
		if err != nil {
			return "", err
		}
		var b strings.Builder
		_, err = r.WriteTo(&b)
		st, errWait := proc.Wait()
		if err = errors.Join(err, errWait); err == nil && !st.Success() {
			err = errors.New(name + ": " + st.String())
		}
		return b.String(), err
	}
	return "", errors.New("exec: " + strconv.Quote(name) + ": executable file not found in $PATH")
}

// parseSignal takes a number, or a name with or without SIG.
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, errors.New("unknown signal " + strconv.Quote(s))
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := process.SignalNumber("SIG" + name); n != 0 {
		return n, nil
	}
	return 0, errors.New("unknown signal " + strconv.Quote(s))
}
