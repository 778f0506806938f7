package container

import (
	"os"
	"time"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/logfile"
	"github.com/tare-engine/tare/internal/logs/forward"
	"github.com/tare-engine/tare/internal/logs/remote"
)

// forwards have the logs of containers sent elsewhere whose log drivers are for that.
type forwards struct {
	records *records
	service *forward.Service
}

// begin has a run's output sent as it comes, after what of earlier ones has not arrived.
func (f *forwards) begin(v *View) {
	driver := v.HostConfig.LogConfig.Type
	if !remote.Is(driver) {
		return
	}
	f.service.Begin(forward.Log{
		ID: v.ID, Dir: f.records.logDir(v.ID), Name: logfile.Name(v.ID, spec.LogFormat(driver)), Position: f.records.file(v.ID, "log-sent"),
		Driver: driver, Options: v.HostConfig.LogConfig.Config, Subject: *logSubject(v),
	})
}

// resume goes on with what the last engine has not sent.
func (f *forwards) resume(v *View) {
	if v.Alive() {
		f.begin(v)
	} else if !v.Last.StartedAt.IsZero() {
		f.begin(v)
		f.service.Finish(v.ID, 0)
	}
}

// ended says that a run is over.
func (f *forwards) ended(id string) { f.service.Finish(id, 0) }

// sentPatience is how long a removal waits for a receiver that takes what it is sent.
const sentPatience = 5 * time.Second

// arrive waits until the receiver has all that the container has said, unless nobody
// receives.
func (f *forwards) arrive(id string) { f.service.Finish(id, sentPatience) }

// depart holds what is not sent of a container whose directory is about to go.
func (f *forwards) depart(id string) { f.service.Depart(id) }

// logSubject is what the lines of a container may tell of it.
func logSubject(v *View) *remote.Subject {
	host, _ := os.Hostname()
	return &remote.Subject{
		ID: v.ID, Name: v.Name, ImageID: v.Image, Image: v.Config.Image, Command: append([]string{v.Path}, v.Args...),
		Created: v.Created, Env: v.Config.Env, Labels: v.Config.Labels, Hostname: host, Daemon: "docker",
	}
}
