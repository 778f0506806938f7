//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Enabled reports whether this build has failpoints.
const Enabled = true

type action struct {
	verb string // kill, error, sleep
	ms   int
	skip int // hits that still do nothing
}

var (
	mu     sync.Mutex
	points = parse(os.Getenv("TARE_FAILPOINTS"))
	log    = openLog(os.Getenv("TARE_FAILPOINTS_LOG"))
	armed  = os.Getenv("TARE_FAILPOINTS_FILE")
)

func openLog(path string) *os.File {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
	if err != nil {
		panic(err)
	}
	return f
}

func parse(s string) map[string]*action {
	m := map[string]*action{}
	for term := range strings.SplitSeq(s, ";") {
		name, verb, ok := strings.Cut(term, "=")
		if !ok {
			continue
		}
		a := &action{}
		if n, rest, ok := strings.Cut(verb, "*"); ok {
			k, err := strconv.Atoi(n)
			if err != nil {
				panic("failpoint: bad count in " + term)
			}
			a.skip, verb = k-1, rest
		}
		if arg, ok := strings.CutPrefix(verb, "sleep("); ok {
			ms, err := strconv.Atoi(strings.TrimSuffix(arg, ")"))
			if err != nil {
				panic("failpoint: bad time in " + term)
			}
			a.ms, verb = ms, "sleep"
		}
		if verb != "kill" && verb != "error" && verb != "sleep" {
			panic("failpoint: unknown action in " + term)
		}
		a.verb = verb
		m[name] = a
	}
	return m
}

// Hit marks a place; see the package comment.
func Hit(name string) { _ = Err(name) }

// Err marks a place that can fail.
func Err(name string) error {
	mu.Lock()
	if log != nil {
		fmt.Fprintln(log, name)
	}
	a := points[name]
	if a == nil && strikes(name) {
		a = &action{verb: "kill"}
	}
	if a != nil && a.skip > 0 {
		a.skip--
		a = nil
	}
	mu.Unlock()
	if a == nil {
		return nil
	}
	switch a.verb {
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "sleep":
		time.Sleep(time.Duration(a.ms) * time.Millisecond)
	}
	if a.verb == "error" {
		return fmt.Errorf("failpoint %s", name)
	}
	return nil
}

// strikes reports whether the file of armed points names this one. It does so
// once: the file is taken away.
func strikes(name string) bool {
	if armed == "" {
		return false
	}
	b, err := os.ReadFile(armed)
	return err == nil && strings.TrimSpace(string(b)) == name && os.Remove(armed) == nil
}
