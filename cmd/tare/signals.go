package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/moby/term"

	"github.com/tare-engine/tare/internal/sigproxy"
)

// proxySignals sends the signals we get to a process instead, from now until
// the function it returns is called; from then on those that end a program end
// us. Those that come before target returns a way to send them are kept.
func (c *cli) proxySignals(target <-chan func(signal string) error) (stop func()) {
	got := make(chan os.Signal, 128)
	sigproxy.Notify(got)
	quit := make(chan struct{})
	go func() {
		var send func(string) error
		var early []os.Signal
		forced := 0
		for {
			select {
			case send = <-target:
				sigproxy.NotifyRest(got)
				for _, s := range early {
					send(signalName(s))
				}
				early, target = nil, nil
			case s := <-got:
				if c.ignored(s) {
					continue
				}
				// Who insists gets out, even if the engine does not answer.
				if s == syscall.SIGINT || s == syscall.SIGTERM {
					if forced++; forced >= 3 {
						fmt.Fprint(c.err, "\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n")
						os.Exit(1)
					}
				}
				if send == nil {
					early = append(early, s)
					continue
				}
				send(signalName(s))
			case <-quit:
				exitOn(got)
			}
		}
	}()
	return func() { close(quit) }
}

// exitOn ends us with the first signal that is meant to. To give all signals
// back to their default action takes longer than we have yet to live.
func exitOn(got <-chan os.Signal) {
	for s := range got {
		switch s {
		case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
			os.Exit(128 + int(s.(syscall.Signal)))
		}
	}
}

// ignored reports whether a signal is our own affair: our terminal was resized;
// to a server in the container the signal would mean something else.
func (c *cli) ignored(s os.Signal) bool {
	return s == resized && (term.IsTerminal(c.in.Fd()) || term.IsTerminal(c.out.Fd()))
}

func signalName(s os.Signal) string {
	if n, ok := s.(syscall.Signal); ok {
		return strconv.Itoa(int(n))
	}
	return s.String()
}

// restoreOnSignal puts the terminal back when a signal ends us. It is for
// sessions that do not pass signals on.
func restoreOnSignal(restore func()) (stop func()) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	quit := make(chan struct{})
	go func() {
		select {
		case s := <-got:
			restore()
			os.Exit(128 + int(s.(syscall.Signal)))
		case <-quit:
		}
	}()
	return func() {
		signal.Stop(got)
		close(quit)
	}
}

// followSize tells a process's terminal the size of ours, now and whenever it
// changes, until the function it returns is called.
func (c *cli) followSize(resize func(rows, cols uint16) error) (stop func()) {
	if !term.IsTerminal(c.out.Fd()) {
		return func() {}
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, resized)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		// The process may not have its terminal yet.
		for wait := 10 * time.Millisecond; !c.sendSize(resize) && wait < time.Second; wait *= 2 {
			select {
			case <-time.After(wait):
			case <-quit:
				return
			}
		}
		for {
			select {
			case <-changed:
				c.sendSize(resize)
			case <-quit:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(quit)
		<-done
	}
}

func (c *cli) sendSize(resize func(rows, cols uint16) error) bool {
	rows, cols := c.size()
	if rows == 0 && cols == 0 {
		return true
	}
	return resize(rows, cols) == nil
}

// size is that of our terminal, zero where there is none.
func (c *cli) size() (rows, cols uint16) {
	ws, err := term.GetWinsize(c.out.Fd())
	if err != nil {
		return 0, 0
	}
	return ws.Height, ws.Width
}
