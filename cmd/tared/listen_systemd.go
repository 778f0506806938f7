package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// activated are the sockets that systemd opened for us: they can be taken from
// the environment once.
var activated = sync.OnceValue(func() []*os.File { return activation.Files(true) })

// firstSocket is the number of the first descriptor that systemd passes.
const firstSocket = 3

// systemdListeners returns the listeners that systemd passed: all of them, or
// the one whose name or descriptor number is given.
func systemdListeners(which string) ([]net.Listener, error) {
	files := activated()
	if len(files) == 0 {
		return nil, errors.New("no sockets found via socket activation: make sure the service was started by systemd")
	}
	var list []net.Listener
	for i, f := range files {
		if which != "" && which != "*" && which != f.Name() && which != strconv.Itoa(firstSocket+i) {
			continue
		}
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("socket %s of systemd: %w", f.Name(), err)
		}
		// systemd made the socket's file and listens there while we are away.
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		list = append(list, l)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no socket %q among the %d of systemd", which, len(files))
	}
	return list, nil
}

// notifySystemd tells systemd of the engine's state, if it asked: "READY=1",
// "STOPPING=1", "RELOADING=1".
func notifySystemd(state string) {
	_, _ = daemon.SdNotify(false, state) // nobody to tell is no error, and systemd's trouble is not ours
}
