// Package apparmor loads profiles into the kernel's AppArmor and tells which
// are there. A process takes a profile on by writing "exec NAME" into its
// /proc/self/attr/apparmor/exec before an execve; that is done elsewhere.
//
// The kernel takes compiled policy only; Debian's apparmor_parser (package
// apparmor) compiles and loads it.
package apparmor

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
)

const (
	enabledFile  = "/sys/module/apparmor/parameters/enabled"
	securityfs   = "/sys/kernel/security/apparmor"
	profilesFile = securityfs + "/profiles"
	parserName   = "apparmor_parser"
)

// Enabled reports whether the running kernel has AppArmor switched on. That
// does not change before the next boot.
var Enabled = sync.OnceValue(func() bool {
	b, err := os.ReadFile(enabledFile)
	return err == nil && strings.HasPrefix(string(b), "Y")
})

// Loaded reports whether the kernel has a profile of this name, in whatever
// mode.
func Loaded(name string) (bool, error) {
	b, err := os.ReadFile(profilesFile)
	if err != nil {
		return false, err
	}
	return listed(string(b), name), nil
}

// listed looks for a line such as "tare-default (enforce)".
func listed(profiles, name string) bool {
	for line := range strings.Lines(profiles) {
		if i := strings.LastIndex(line, " ("); i >= 0 && line[:i] == name {
			return true
		}
	}
	return false
}

// Current is the profile that the calling process is under: "unconfined" if
// none.
func Current() string {
	for _, file := range []string{"/proc/self/attr/apparmor/current", "/proc/self/attr/current"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		name := strings.TrimRight(string(b), "\n\x00")
		if i := strings.LastIndex(name, " ("); i >= 0 {
			name = name[:i]
		}
		return name
	}
	return "unconfined"
}

// Load compiles the text of one or more profiles and puts them into the
// kernel, in place of those of the same names. Processes under these are under
// the new ones at once.
func Load(text string) error {
	parser, err := exec.LookPath(parserName)
	if err != nil { // the PATH of a service may lack it
		parser = "/sbin/" + parserName
	}
	// No cache: what an older parser or another kernel compiled is not ours.
	cmd := exec.Command(parser, "--replace", "--skip-cache", "--quiet")
	cmd.Stdin = strings.NewReader(text)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", parserName, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// Default is the profile of containers that name none. The zero value works;
// it is safe for concurrent use.
type Default struct{ mu sync.Mutex }

// Ensure loads the profile unless it is there: an administrator's clean-up
// may have removed it since the last time.
func (d *Default) Ensure() error {
	there, err := Loaded(DefaultName)
	if there || err != nil {
		return err
	}
	return d.Load()
}

// Load loads the profile, also over one of the same name.
func (d *Default) Load() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	engine := Current()
	err := Load(profile(engine, true))
	if err != nil { // parsers before 4.0 do not know all of it
		err = Load(profile(engine, false))
	}
	return err
}
