// Package sigproxy gets the signals that a program passes on to the process that
// it stands for: `docker run`'s --sig-proxy, an OCI runtime's foreground process.
//
// package os/signal takes each signal by two switches to a thread of its own,
// and gives it back by two more. All 60 of them are 250 switches, a quarter of a
// run of `true`: so those that people and supervisors send are taken at once, the
// others when the process has run for a moment and nobody waits for us.
package sigproxy

import (
	"os"
	"os/signal"
	"time"
)

// Notify sends c the usual signals from now on. Those that are about this process
// alone never come. c should have room: what does not fit is lost. A write to a
// pipe that nobody reads any more is an error from now on, and not our end.
func Notify(c chan<- os.Signal) {
	signal.Notify(c, usual...)
	signal.Notify(make(chan os.Signal, 1), own...)
}

// moment is how long the others keep their default action.
const moment = 50 * time.Millisecond

// NotifyRest sends c all other signals that can be passed on, soon after it is
// called: when the process that gets them has been started.
func NotifyRest(c chan<- os.Signal) { time.AfterFunc(moment, func() { notifyRest(c) }) }

func notifyRest(c chan<- os.Signal) {
	if list := rest(); len(list) > 0 { // none would mean all
		signal.Notify(c, list...)
	}
}
