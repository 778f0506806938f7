package oci

import (
	"errors"
	"os"
	"strings"

	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/runtime"
)

// explainer turns a step's failure into runc's text, without what others put
// before it.
func explainer(explain func(*spawn.StepError) error) func(*spawn.StepError) error {
	return func(e *spawn.StepError) error { return reason(explain(e)) }
}

// reason is runc's text of an error that may have been made for Docker's clients.
func reason(err error) error {
	if s, ok := errors.AsType[*runtime.StartError](err); ok {
		return errors.New(s.Reason())
	}
	return err
}

// findProgram looks for the program as the execve will, in the root as it is
// now: "create" tells what "start" could not any more.
func (k *creation) findProgram() error {
	root, err := os.OpenFile("/proc/"+itoa(k.c.Pid)+"/root", inroot.OPath|inroot.ODirectory, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	p := k.start.Process()
	name := p.Args[0]
	if strings.Contains(name, "/") {
		if !strings.HasPrefix(name, "/") {
			name = p.Cwd + "/" + name
		}
		if st, err := inroot.Stat(root, name); err != nil {
			return programError(p.Args[0], pathErrno(err))
		} else if st.IsDir() || st.Mode()&0o111 == 0 {
			return programError(p.Args[0], "permission denied")
		}
		return nil
	}
	for dir := range strings.SplitSeq(runtime.SearchPath(p.Env), ":") {
		if !strings.HasPrefix(dir, "/") {
			dir = p.Cwd + "/" + dir
		}
		if st, err := inroot.Stat(root, dir+"/"+name); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return nil
		}
	}
	return errors.New("exec: " + quote(name) + ": executable file not found in $PATH")
}

func programError(name, why string) error {
	if strings.HasPrefix(why, "permission") {
		return errors.New("exec: " + quote(name) + ": " + why)
	}
	return errors.New("exec: " + quote(name) + ": stat " + name + ": " + why)
}

func pathErrno(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
