//go:build root

package script

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// terminalCommand is `terminal FILE ARG...`: the command line in a terminal of
// 24 rows and 80 columns. The file's lines say what happens, in order:
//
//	size ROWS COLUMNS  the window changes, and again until the next thing is seen:
//	                   docker's command line misses a change before it listens
//	type TEXT          types it; \r, \x03 and the like as in Go
//	see REGEXP         waits until the output has it, after the last thing seen
//	wait DURATION      does nothing
//	ends CODE          waits for the end
func terminalCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: terminal FILE ARG...")
	}
	cmd := exec.Command(ts.Getenv("PATH")[:strings.IndexByte(ts.Getenv("PATH"), os.PathListSeparator)]+"/docker", args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"HOME", "PATH", "DOCKER_HOST"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Env = append(cmd.Env, "TERM=xterm")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	ts.Check(err)
	defer f.Close()
	t := &terminal{file: f, cmd: cmd, output: make(chan []byte, 100), ended: make(chan error, 1)}
	go t.read()
	for _, line := range strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n") {
		if err := t.do(line); err != nil {
			cmd.Process.Kill()
			ts.Fatalf("%s: %v; the output since:\n%q", line, err, t.unseen)
		}
	}
}

// terminal is a program in a terminal.
type terminal struct {
	file   *os.File
	cmd    *exec.Cmd
	output chan []byte
	ended  chan error
	unseen []byte
	size   *pty.Winsize // that the program may not have noticed; nil: none
}

// resize changes the size of the window, by way of another one: the kernel tells
// of changes only.
func (t *terminal) resize() error {
	if t.size == nil {
		return nil
	}
	other := *t.size
	other.Cols++
	return errors.Join(pty.Setsize(t.file, &other), pty.Setsize(t.file, t.size))
}

// read passes on the output, then the end of the program.
func (t *terminal) read() {
	for {
		buf := make([]byte, 4096)
		n, err := t.file.Read(buf)
		if n > 0 {
			t.output <- buf[:n]
		}
		if err != nil {
			close(t.output)
			t.ended <- t.cmd.Wait()
			return
		}
	}
}

func (t *terminal) do(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "size":
		var rows, cols uint16
		if _, err := fmt.Sscan(rest, &rows, &cols); err != nil {
			return err
		}
		t.size = &pty.Winsize{Rows: rows, Cols: cols}
		return t.resize()
	case "type":
		text, err := strconv.Unquote(`"` + rest + `"`)
		if err != nil {
			return err
		}
		_, err = t.file.WriteString(text)
		return err
	case "see":
		return t.see(rest)
	case "wait":
		d, err := time.ParseDuration(rest)
		time.Sleep(d) // the session says why
		return err
	case "ends":
		return t.end(rest)
	}
	return fmt.Errorf("unknown verb %q", verb)
}

func (t *terminal) see(pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	timeout := time.After(patience)
	for {
		if at := re.FindIndex(t.unseen); at != nil {
			t.unseen, t.size = t.unseen[at[1]:], nil
			return nil
		}
		select {
		case b, ok := <-t.output:
			if !ok {
				return fmt.Errorf("the program has ended")
			}
			t.unseen = append(t.unseen, b...)
		case <-time.After(200 * time.Millisecond):
			if err := t.resize(); err != nil {
				return err
			}
		case <-timeout:
			return fmt.Errorf("not within a minute")
		}
	}
}

func (t *terminal) end(code string) error {
	timeout := time.After(patience)
	for output := t.output; ; {
		select {
		case b, ok := <-output:
			if !ok {
				output = nil
			}
			t.unseen = append(t.unseen, b...)
		case <-t.ended:
			if got := strconv.Itoa(t.cmd.ProcessState.ExitCode()); got != code {
				return fmt.Errorf("it ended with %s", got)
			}
			return nil
		case <-timeout:
			return fmt.Errorf("no end within a minute")
		}
	}
}
