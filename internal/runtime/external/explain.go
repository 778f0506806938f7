package external

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/runtime"
)

// Beginnings of Docker's texts.
const (
	createFailed = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
	startFailed  = "failed to start task: OCI runtime start failed: "
	execFailed   = "OCI runtime exec failed: "
)

// Explain turns the keeper's error into Docker's text with the runtime's own
// words, and its exit code. Other errors stay as they are.
func (s *Start) Explain(err error) error {
	if step, ok := errors.AsType[*spawn.StepError](err); ok {
		return s.explainStep(step)
	}
	failed, ok := errors.AsType[*wire.RuntimeError](err)
	if !ok {
		return err
	}
	said := lastError(s.file("log.json"), 0)
	if said == "" {
		said = failed.Error()
		if words := s.words(failed); words != "" {
			said += ": " + words
		}
	}
	return runtime.NewStartError(s.prefix(failed.Second)+likeGo(said), err)
}

// likeGo words the end of a text, an errno's text of C, as Go does: by such
// words Docker's command line tells 127 and 126 from 125. crun says EPERM of a
// program that is no file.
func likeGo(text string) string {
	for _, errno := range []string{"No such file or directory", "Not a directory", "Permission denied", "Is a directory", "Exec format error"} {
		if before, ok := strings.CutSuffix(text, errno); ok {
			return before + strings.ToLower(errno)
		}
	}
	if text == "open executable: Operation not permitted" {
		return text + ": permission denied"
	}
	return text
}

// explainStep tells why the runtime's program was not executed.
func (s *Start) explainStep(e *spawn.StepError) error {
	plan := s.plans[0]
	if e.Second {
		plan = s.plans[1]
	}
	path := s.c.Runtime.Path
	name := plan.StepName(e.Step)
	text := fmt.Sprintf("%s: %v", name, e.Errno)
	if strings.HasPrefix(name, "execve ") {
		text = fmt.Sprintf("runtime %s: exec: %q: %v", s.c.Runtime.Name, path, e.Errno)
		if e.Errno == syscall.ENOENT && strings.Contains(path, "/") {
			text = fmt.Sprintf("runtime %s: exec: %q: stat %s: %v", s.c.Runtime.Name, path, path, e.Errno)
		}
	}
	return runtime.NewEngineError(s.prefix(e.Second)+text, e)
}

func (s *Start) prefix(second bool) string {
	switch {
	case s.exec != "":
		return execFailed
	case second:
		return startFailed
	}
	return createFailed
}

// words are what the runtime wrote to its stderr, whichever that was.
func (s *Start) words(e *wire.RuntimeError) string {
	if e.Stderr != "" {
		return strings.TrimSpace(e.Stderr)
	}
	b, _ := os.ReadFile(s.file("stderr"))
	return strings.TrimSpace(string(b[max(0, len(b)-maxWords):]))
}

// maxWords bounds how much of a runtime's stderr goes into an error.
const maxWords = 4 << 10

// size is how much the runtime has logged.
func size(log string) int64 {
	st, err := os.Stat(log)
	if err != nil {
		return 0
	}
	return st.Size()
}

// lastError is the last error in a log behind an offset.
func lastError(log string, from int64) (msg string) {
	f, err := os.Open(log)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, from, maxLog))
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(b) {
		var l struct{ Level, Msg string }
		if json.Unmarshal(line, &l) == nil && l.Msg != "" && (l.Level == "error" || l.Level == "fatal") {
			msg = l.Msg
		}
	}
	return strings.TrimSpace(msg)
}

// maxLog bounds how much of a runtime's log is read.
const maxLog = 1 << 20
