package api

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/api/types/container"
)

// What this engine has and Docker's has not: routes, their documents, and fields
// of Docker's.

// OwnRoutes is what our routes begin with, and OwnHeader is in each of their
// answers: an answer 404 without it is that of an engine that does not have the
// route, with it there is no such image, or whatever was asked for.
const (
	OwnRoutes = "/tare/"
	OwnHeader = "Tare-Route"
)

// RunPath is the route of the one-request run: create, attach, start and wait
// in one exchange. It is Tare's own; Docker's clients make four requests.
//
// The client sends a RunRequest with "Upgrade: tcp". What fails before the
// container exists is an ordinary error answer. Then the connection becomes a
// stream of frames: output in Stdout and Stderr, and RunStatus documents in
// System. A container with a terminal is refused: it needs the four requests. The client's own bytes are the
// container's standard input, unframed; it half-closes the connection at its end.
const RunPath = "/tare/run"

// ExecSummary is a process of GET /containers/{name}/execs, which Docker does
// not have: further processes of a container that are prepared or running.
type ExecSummary struct {
	ID          string
	ContainerID string
	Pid         int // on the engine's host; 0 before the start
	Command     []string
	User        string    // as it was asked for; "" is the container's
	Started     time.Time // zero before the start
	Running     bool
}

// ExecStartRequest is Docker's body of POST /exec/{id}/start with what is ours.
type ExecStartRequest struct {
	container.ExecStartRequest

	// EndWithClient has the process killed when the connection that this
	// request becomes ends before the process does, as a program that ran in
	// the client's own terminal would end. Detach keys leave it running. Not
	// with Detach.
	EndWithClient bool `json:",omitempty"`
}

// StatsPath is the route of the statistics of all running containers: a JSON
// list of container.StatsResponse a second, until the client leaves.
const StatsPath = "/tare/stats"

// RunRequest asks for a container to be made, attached to and started.
type RunRequest struct {
	CreateOptions
	Create container.CreateRequest
	Attach AttachOptions
}

// RunStatus is one document of the System stream of a run. The first comes
// when the container is made and has no ExitCode; the last has one.
type RunStatus struct {
	ID       string   `json:"Id"`
	Warnings []string `json:",omitempty"`
	Error    string   `json:",omitempty"` // why it did not start, or how the engine lost it
	ExitCode *int     `json:",omitempty"`
	Detached bool     `json:",omitempty"` // the client pressed the detach keys; no ExitCode
}

// WriteRunStatus writes st as one frame of the System stream.
func WriteRunStatus(w io.Writer, st RunStatus) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	_, err = NewFrameWriter(w, System).Write(b)
	return err
}

// ReadRun copies the output of a run and reports each RunStatus as it comes.
func ReadRun(r io.Reader, stdout, stderr io.Writer, status func(RunStatus) error) error {
	return Demux(r, stdout, stderr, func(p []byte) error {
		var st RunStatus
		if err := json.Unmarshal(p, &st); err != nil {
			return fmt.Errorf("status of a run: %w", err)
		}
		return status(st)
	})
}
