package container

import (
	"time"

	"github.com/moby/moby/api/types/container"
)

// Status is where a container is in its life:
//
//	           ┌─── start, restart ────┐
//	           ▼                       │
//	created ─ start ─▶ running ─ exit ─▶ exited
//	   │               │     ▲           │
//	   │             pause unpause       │
//	   │               ▼     │           │
//	   │              paused ┘── exit ──▶│
//	   └──── remove ──▶ removing ◀─ remove ┘
//	                    │     │
//	                  (gone)  dead (a removal that failed; remove again)
//
// With a restart policy an exit leads to restarting, from where a start leads to
// running, and a stop to exited. An engine that finds out what has become of a
// run that an earlier one began may go from running to created, or to exited:
// see [Container.adopt].
type Status string

// The states, in Docker's words.
const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Exited     Status = "exited"
	Restarting Status = "restarting" // it has ended and is started again soon
	Removing   Status = "removing"
	Dead       Status = "dead"
)

// steps lists every legal step between states.
var steps = map[Status][]Status{
	Created:    {Running, Exited, Removing},
	Running:    {Paused, Exited, Restarting},
	Paused:     {Running, Exited, Restarting},
	Restarting: {Running, Exited},
	Exited:     {Running, Exited, Restarting, Removing},
	Removing:   {Dead},
	Dead:       {Removing},
}

// maySucceed reports whether a container may go from one state to another.
func maySucceed(from, to Status) bool {
	for _, s := range steps[from] {
		if s == to {
			return true
		}
	}
	return false
}

// View is the picture of a container that readers get: never changed once it
// is stored.
type View struct {
	*Record
	Status  Status
	Pid     int       // 0 unless Alive
	Ticks   uint64    // when that process began: tells a reused pid
	Started time.Time // of this run if Alive, else of the last
	Network *Networking
	Health  container.HealthStatus // empty: it is not probed, or does not run
}

// Alive reports whether the container has a process.
func (v *View) Alive() bool { return v.Status == Running || v.Status == Paused }

// Up reports whether the container is meant to run: it has a process, or gets
// one soon. Docker calls both running.
func (v *View) Up() bool { return v.Alive() || v.Status == Restarting }

// AutoRemove reports whether the container goes when its run ends.
func (v *View) AutoRemove() bool { return v.HostConfig.AutoRemove }
