package main

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/oci"
)

func runCreate(a *app, f values, args []string) (int, error) {
	o, err := a.createOptions(f, args[0])
	if err != nil {
		return 0, err
	}
	_, err = a.root.Create(o)
	return 0, err
}

func (a *app) createOptions(f values, id string) (o oci.CreateOptions, err error) {
	o = oci.CreateOptions{
		ID: id, Bundle: f.text("bundle", "."), ConsoleSocket: f.text("console-socket", ""), PidFile: f.text("pid-file", ""),
		NoPivot: f.has("no-pivot"), NoKeyring: f.has("no-new-keyring"), SystemdCgroup: a.systemd, Warn: a.warn,
		Notify: os.Getenv(notifySocket),
	}
	if f.text("bundle", "") != "" {
		if o.PidFile, err = absolute(o.PidFile); err != nil {
			return o, err
		}
		if o.ConsoleSocket, err = absolute(o.ConsoleSocket); err != nil {
			return o, err
		}
		if err := os.Chdir(o.Bundle); err != nil {
			return o, err
		}
		o.Bundle = "."
	}
	o.Preserve, o.Env, err = preserved(f)
	return o, err
}

// absolute makes a path independent of the working directory.
func absolute(p string) (string, error) {
	if p == "" || p[0] == '/' {
		return p, nil
	}
	d, err := os.Getwd()
	return d + "/" + p, err
}

// preserved are the descriptors that the program gets beside its streams:
// those of socket activation (sd_listen_fds(3)) and those that the caller counts.
func preserved(f values) (files []*os.File, env []string, err error) {
	n, err := f.number("preserve-fds")
	if err != nil {
		return nil, nil, err
	}
	if listen := os.Getenv("LISTEN_FDS"); listen != "" {
		k, err := strconv.Atoi(listen)
		if err != nil {
			return nil, nil, errors.New("unable to convert LISTEN_FDS=" + listen + " to int")
		}
		env = append(env, "LISTEN_FDS="+listen, "LISTEN_PID=1")
		n += k
	}
	for fd := 3; fd < 3+n; fd++ {
		file := os.NewFile(uintptr(fd), "preserved")
		if _, err := file.Stat(); err != nil {
			return nil, nil, errors.New("please check that preserved-fd " + strconv.Itoa(fd-3) + " (of " + strconv.Itoa(n) + ") is present")
		}
		syscall.CloseOnExec(fd)
		files = append(files, file)
	}
	return files, env, nil
}

func runRun(a *app, f values, args []string) (int, error) {
	o, err := a.createOptions(f, args[0])
	if err != nil {
		return 0, err
	}
	o.Run = true
	if f.has("detach") {
		c, err := a.root.Create(o)
		if err == nil {
			a.forward(c.Ready, 0)
		}
		return 0, err
	}
	if !f.has("no-subreaper") {
		if err := process.Subreaper(); err != nil {
			return 0, err
		}
	}
	s := newSession()
	o.Console = s.console
	c, err := a.root.Create(o)
	if err != nil {
		return 0, err
	}
	told := make(chan struct{})
	go func() {
		a.forward(c.Ready, os.Getpid()) // ends with the container at the latest
		close(told)
	}()
	code, err := s.wait(c.Pid)
	if err == nil {
		<-told
	}
	if err == nil && !f.has("keep") {
		err = c.Finish(a.warn)
	}
	return code, err
}

func runStart(a *app, _ values, args []string) (int, error) {
	c, err := a.root.Lock(args[0])
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.Start(os.Getenv(notifySocket)); err != nil {
		return 0, err
	}
	c.Close() // it may take long to be ready, and be killed meanwhile
	a.forward(c.Ready, 0)
	return 0, nil
}

// notifySocket names the socket of a caller who is to be told of readiness, as
// systemd is of its services'.
const notifySocket = "NOTIFY_SOCKET"

// forward passes the container's readiness on. A caller who cannot be told does
// not end what runs.
func (a *app) forward(r *oci.Readiness, main int) {
	defer r.Close()
	if err := r.Forward(main); err != nil {
		a.warn("%v", err)
	}
}

func runDelete(a *app, f values, args []string) (int, error) {
	return 0, a.root.Delete(args[0], f.has("force"), a.warn)
}
