package main

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tare-engine/tare/client"
)

// An engine that comes up between the question whether the container has run
// and the wait for its end must not make a container that has never run one
// that ended with 0.
func TestAContainerThatNeverRanHasNoExitCode(t *testing.T) {
	e := newFakeEngine(t)
	var asked atomic.Int32
	e.handle["GET /containers/box/json"] = func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 { // it goes away
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				conn.Close()
			}
			return
		}
		io.WriteString(w, `{"Id":"box","State":{"Status":"created"}}`)
	}
	e.handle["POST /containers/box/wait"] = func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"StatusCode":0}`)
	}
	cl, err := client.New(client.Options{Host: e.host})
	if err != nil {
		t.Fatal(err)
	}
	code, err := awaitExit(t.Context(), cl, "box", nil)
	if code != 125 || err == nil || !strings.Contains(err.Error(), "before it started it") {
		t.Errorf("code %d, %v", code, err)
	}
}
